"""Folds of a cross-validation as one model for each metric: which runs they are, their scores, their merge."""
