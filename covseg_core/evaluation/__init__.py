"""How good a model is: measures, scores of runs on the same test cases, baselines, which scores compare.

`cross_validation/` makes one model of all folds, `seeds/` one of all seeds, `significance/` says what can be told
apart, `stored_predictions/` looks at test probabilities at any threshold, `studies/` holds leakage and source shift.
"""
