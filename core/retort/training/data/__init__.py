"""Load, order, cache and augment training images."""
