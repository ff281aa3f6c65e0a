"""Quality without truth: how the Dice of an ensemble's masks goes with the agreement of its members.

`measure` predicts scans that no member was trained on and keeps what it learns, `ensembles` says which runs are one,
`relation` fits and checks it patient by patient, `risk_coverage` says what a review by expected Dice is worth.
`prediction.expected_dice` uses what is kept.
"""

from covseg_core.evaluation.expected_quality.ensembles import FEWEST_MEMBERS, ensembles_of, names_of
from covseg_core.evaluation.expected_quality.measure import measure_quality

__all__ = ["FEWEST_MEMBERS", "ensembles_of", "measure_quality", "names_of"]
