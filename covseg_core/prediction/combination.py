"""One mask from several models: by the mean of their probabilities, or by the vote of their masks.

**Mean.** Each model's probabilities are stretched so that its own threshold comes to 0.5 (`probabilities.centred`),
also where all models share one, and a voxel is in the mask where their mean reaches 0.5. At a threshold of 0.5 nothing
is stretched: it is the plain mean then. However low the thresholds are, one sure model against two is not enough, as it
would be if the plain mean were held against them.

**Vote.** A voxel is in the mask when more than half of the models have it in theirs, at their own threshold and
smallest size and peak. A tie, which an even number of models can have, is left out.

From the mask of either, what lies beyond the chest and what is too small is left out (`masks.kept`); from that of the
mean, also parts in which it nowhere reaches the median of the models' peaks, stretched alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal, Protocol, get_args

import numpy as np

from covseg_core.data.slices.boxes import bounding_box
from covseg_core.errors import SettingError
from covseg_core.prediction.masks.kept import Kept, Rules
from covseg_core.prediction.probabilities import Probabilities, centred, consensus, mean, parts
from covseg_core.prediction.threshold import reaching
from covseg_core.runs.operating_point import Threshold

Combine = Literal["mean", "vote"]
WORDS: dict[Combine, str] = {
    "mean": "the mean of the models' probabilities, each stretched so that its threshold comes to 0.5",
    "vote": "vote: more than half of the models; a tie is left out",
}
MIDDLE = np.float32(0.5)
"""Where `centred` puts the threshold of each model."""


def check_combine(combine: str) -> None:
    """Raise `SettingError` unless it is a way to combine models."""
    if combine not in get_args(Combine):
        raise SettingError("combine", repr(combine), " or ".join(get_args(Combine)))


def combination(combine: Combine, shape: Sequence[int], rules: Rules) -> Combination:
    """The mask of models that are added one by one, of a scan of this shape (Z, Y, X)."""
    return Mean(shape, rules) if combine == "mean" else Vote(shape, rules)


def together(answers: Sequence[np.ndarray], combine: Combine) -> np.ndarray:
    """What several models say together, pixel by pixel: the mask, before anything is left out, is where it reaches 0.5.

    Parameters
    ----------
    answers : of each model, all of one shape, float32, stretched by `centred`
    """
    return mean(answers) if combine == "mean" else consensus(answers)


class Combination(Protocol):
    """One mask from several models."""

    def add(self, answer: Probabilities, at: Threshold) -> Kept:
        """Take one more model into account; its own mask, at its threshold, smallest size and peak."""

    def decide(self, minimum_mm3: float) -> Kept:
        """The mask, without parts below its own smallest size. Nothing can be asked after it."""

    def tied(self) -> int:
        """Voxels with as many models for as against, which a vote leaves out."""


class Mean:
    """The mean of the models' probabilities, on the scan's own grid and a few planes at a time."""

    def __init__(self, shape: Sequence[int], rules: Rules) -> None:
        self._rules, self._answers = rules, list[tuple[Probabilities, Threshold]]()
        self._any = np.zeros(shape, np.uint8)
        """Where any of the models reaches its threshold: nowhere else can their mean reach 0.5."""

    def add(self, answer: Probabilities, at: Threshold) -> Kept:
        """As `Combination.add`."""
        reached = reaching(answer, at.threshold)
        self._any |= reached
        self._answers.append((answer, at))
        return self._rules.keep(reached, at.minimum_mm3, _sure(answer, at))

    def decide(self, minimum_mm3: float) -> Kept:
        """As `Combination.decide`."""
        peaks = [float(centred(np.array(at.peak, np.float32), at.threshold)) for _, at in self._answers]
        peak = np.float32(median(peaks))
        sure = np.zeros_like(self._any) if peak > MIDDLE else None
        for part in parts(len(self._any)):
            there = self._any[part]
            if not there.any():
                continue
            box = (slice(None), *bounding_box(np.asarray(there.any(axis=0))))
            # one model after another, so that never more than one has its probabilities on the scan's grid
            said = mean(centred(answer.block(part)[box], at.threshold) for answer, at in self._answers)
            there[box] = said >= MIDDLE
            if sure is not None:
                sure[part][box] = said >= peak
        return self._rules.keep(self._any, minimum_mm3, sure)

    def tied(self) -> int:
        """Of a mean none are."""
        return 0


class Vote:
    """How many models have each voxel in their mask."""

    def __init__(self, shape: Sequence[int], rules: Rules) -> None:
        self._votes, self._models = np.zeros(shape, np.uint8), 0
        self._rules = rules

    def add(self, answer: Probabilities, at: Threshold) -> Kept:
        """As `Combination.add`."""
        reached = reaching(answer, at.threshold)
        inside, beyond = self._rules.inside(reached)
        mask, sizes = self._rules.parts(inside, at.minimum_mm3, _sure(answer, at))
        self._models += 1
        self._votes += mask
        if beyond:  # counts too, to tell how much of it the vote leaves out
            self._votes += np.subtract(reached, inside, out=reached)
        return Kept(mask, sizes, beyond)

    def decide(self, minimum_mm3: float) -> Kept:
        """As `Combination.decide`."""
        majority = np.greater(self._votes, self._models // 2, out=self._votes.view(bool)).view(np.uint8)
        return self._rules.keep(majority, minimum_mm3)

    def tied(self) -> int:
        """As `Combination.tied`."""
        return sum(int(np.count_nonzero(plane == self._models / 2)) for plane in self._votes)


def _sure(answer: Probabilities, at: Threshold) -> np.ndarray | None:
    """(Z, Y, X) uint8 0/1: where a model reaches its peak; None where every part of its mask does so."""
    return reaching(answer, at.peak) if at.peak > at.threshold else None
