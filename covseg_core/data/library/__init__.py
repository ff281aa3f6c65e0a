"""Datasets on disk: importing cases, pairing scans with masks, looking them over, keeping them, the public data set."""
