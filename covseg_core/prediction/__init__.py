"""A scan in, masks out: asking models, deciding voxel by voxel, and what is to be known about scan and mask.

`masks/` works on masks alone, `output/` writes the files of a prediction, `cohort/` predicts many scans in one call.
"""
