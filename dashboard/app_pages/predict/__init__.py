"""Quick prediction: a scan in, its mask out, in three steps, each of which has its module."""
