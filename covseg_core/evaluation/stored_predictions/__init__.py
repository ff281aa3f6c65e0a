"""What test probabilities, kept with a run, still tell: other thresholds, calibration, lesions, slices to see."""
