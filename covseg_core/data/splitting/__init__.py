"""Which patients and slices train, validate and test; folds; how alike test and training slices are."""
