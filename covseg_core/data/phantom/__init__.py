"""Synthetic chest scans with lesions and masks: data without patients, for trying things out and for tests."""
