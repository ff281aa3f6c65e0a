"""Data and training: bring scans and masks, look at them, choose settings, start trainings."""
