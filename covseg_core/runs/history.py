"""What the rows of `history.csv` say."""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_epoch(scores: Sequence[float]) -> int:
    """Number, from 1, of the first epoch with the highest validation score; 0 if there is none.

    >>> best_epoch([0.2, 0.7, 0.7])
    2
    """
    best = 0
    for epoch, score in enumerate(scores, start=1):
        if not math.isnan(score) and (not best or score > scores[best - 1]):
            best = epoch
    return best
