"""Volumes into slices: intensity scale and window, square resized slices, the cache, the set a training reads."""
