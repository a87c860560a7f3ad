"""Read archives from strangers: ZIP and tar, member by member, bounded."""
