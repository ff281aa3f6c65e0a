"""How good a model is: measures, baselines and their tables, in NumPy and on the scans' own grids."""
