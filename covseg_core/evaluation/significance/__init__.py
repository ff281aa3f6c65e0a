"""Whether a difference is more than chance: intervals by patient, exact paired tests, the verdict in a sentence."""
