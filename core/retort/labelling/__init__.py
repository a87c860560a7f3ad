"""Pseudo-label images: prediction, duplicates, quality, dataset."""
