"""A comparison to hand on: one zip with everything it rests on, and the same evaluation repeated by somebody else."""
