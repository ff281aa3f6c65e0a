"""What Dice to expect of a mask whose truth nobody knows: by the agreement of the models that made it.

How Dice goes with agreement is learned by `covseg_core.evaluation.expected_quality` from scans with true masks that
none of the models was trained on, and kept in `quality.json`, in the folder of the ensemble's first run. It holds for
these very models, used in this very way; with any others, nothing is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covseg_core.config import Target
from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import CovsegError
from covseg_core.files import cached_json, cached_sha256, write_json
from covseg_core.prediction.ask import Answers
from covseg_core.prediction.combination import Combine
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.masks.agreement import agreement
from covseg_core.runs import Run, open_run
from covseg_core.runs.operating_point import FILE as POINT
from covseg_core.runs.operating_point import Thresholds, thresholds_of

FILE = "quality.json"
VERSION = 1
EMPTY = "nothing was marked, and the Dice of an empty mask is all or nothing"
EXPLAINED = (
    "Expected Dice: what the agreement of these very models has meant on scans with known masks that none of them was "
    "trained on. The interval is made to hold for 9 of 10 patients like those; of other scanners or diseases it says "
    "nothing."
)
Part = Literal["test", "validation", "new"]
"""Where a scan stands that no model was trained on; `new` is in no part of any model's split."""


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, as it was."""

    run: str
    model_sha256: str
    """Of `model.onnx`."""
    point_sha256: str
    """Of `operating_point.json`; empty if it has none."""


@dataclass(frozen=True)
class Way:
    """How the models are used, at their operating points."""

    combine: Combine = "mean"
    mirror: bool = False
    precision: Precision = "float32"
    keep_beyond: bool = False
    lungs_sha256: str = ""
    """Of the lung model beside them; empty without one."""


@dataclass(frozen=True)
class KnownScan:
    """A scan with a true mask that no model was trained on."""

    case: str
    patient: str
    part: Part
    agreement: float
    """Of the models, as `agreement`."""
    dice: float
    """Of their combined mask, over the whole scan."""
    expected: float | None = None
    """By the scans of all other patients; None where it was not computed."""


@dataclass(frozen=True)
class Quality:
    """How the Dice of ensembles goes with their agreement, or why that cannot be said."""

    version: int
    created: str
    """ISO 8601, UTC."""
    target: Target
    ensembles: tuple[tuple[Member, ...], ...]
    """One; of a cross-validation one for each fold, which together tell the same of each."""
    dataset: str
    """Whose masks are true, with its revision: `NAME@3`."""
    fingerprint: str
    way: Way
    scans: tuple[KnownScan, ...]
    refused: str
    """Why no Dice can be expected, in a clause; empty if it can."""
    agreement: tuple[float, ...] = ()
    """Ascending; between them `dice` is on straight lines, beyond them as at the ends."""
    dice: tuple[float, ...] = ()
    """Never falling."""
    margin: float = 1.0
    """Of the interval, to either side."""
    level: float = 0.0
    """Share of new patients whose Dice the interval is meant to hold."""
    coverage: float | None = None
    """Share of the known patients whose Dice an interval held that was made without them."""
    error: float | None = None
    """Mean distance of Dice from what is expected without the patient."""
    error_of_mean: float | None = None
    """The same where the mean Dice of all other patients is expected."""
    notes: tuple[str, ...] = ()
    """What was left out, a sentence each."""

    @property
    def patients(self) -> int:
        """Whose scans it was learned from."""
        return len({scan.patient for scan in self.scans})

    def at(self, agreement: float) -> float:
        """Dice to expect."""
        return float(np.interp(agreement, self.agreement, self.dice))


@dataclass(frozen=True)
class ExpectedDice:
    """Of one mask."""

    agreement: float
    """Of the models, 0..1."""
    value: float | None
    """None, as the edges, where nothing can be said."""
    low: float | None
    high: float | None
    level: float
    """Share of patients for whom the interval is meant to hold."""
    patients: int
    """By whom it is known."""
    dataset: str
    """Theirs, with its revision."""
    reason: str = ""
    """Why nothing can be said, in a clause."""

    @property
    def words(self) -> str:
        """`0.71 (0.55 to 0.84)`; empty where nothing can be said."""
        return "" if self.value is None else f"{self.value:.2f} ({self.interval})"

    @property
    def interval(self) -> str:
        """`0.55 to 0.84`; empty where nothing can be said."""
        return "" if self.value is None else f"{self.low:.2f} to {self.high:.2f}"

    @property
    def sentence(self) -> str:
        """`expected Dice 0.71 (0.55 to 0.84)`, or why there is none."""
        return f"no expected Dice: {self.reason}" if self.value is None else f"expected Dice {self.words}"


def expected_dice(
    answers: Answers,
    thresholds: Thresholds,
    combine: Combine,
    keep_beyond: bool,
    packed: Sequence[np.ndarray],
    voxels: int,
    spacing_known: bool,
) -> ExpectedDice | None:
    """What can be expected of the mask that models make together; None where nothing was ever learned about them.

    Parameters
    ----------
    thresholds, combine, keep_beyond : as the mask was made
    packed : masks of the models, one bit a voxel
    voxels : of the combined mask
    spacing_known : whether the size of the scan's voxels is, on which smallest sizes depend
    """
    if len(answers.models) < 2:
        return None
    try:
        runs = [open_run(id) for id in answers.runs]
        quality = stored_quality(runs)
    except CovsegError:  # answers of runs that were deleted meanwhile
        return None
    if quality is None:
        return None
    lungs = answers.lungs.model.sha256 if answers.lungs else ""
    way = Way(combine, answers.mirror, answers.precision, keep_beyond, lungs)
    used = {answer.model.run: answer.model.sha256 for answer in answers.models}
    reason = (
        _changed(quality, runs, used)
        or quality.refused
        or _otherwise(quality.way, way, thresholds, thresholds_of(runs, spacing_known))
        or (EMPTY if not voxels else "")
    )
    agreed = agreement(packed)
    assert agreed is not None  # there are several
    nothing = ExpectedDice(agreed, None, None, None, quality.level, quality.patients, quality.dataset, reason)
    if reason:
        return nothing
    value = quality.at(agreed)
    low, high = max(0.0, value - quality.margin), min(1.0, value + quality.margin)
    return dataclasses.replace(nothing, value=value, low=low, high=high)


def stored_quality(runs: Sequence[Run]) -> Quality | None:
    """What is known of an ensemble of exactly these runs, whether or not it still holds; None if nothing is."""
    try:
        found = cached_json(_home(runs).folder / FILE, Quality)
    except CovsegError:  # there is none, or it is of another version
        return None
    ids = {run.id for run in runs}
    known = found.version == VERSION and any({member.run for member in each} == ids for each in found.ensembles)
    return found if known else None


def changed_since(quality: Quality, runs: Sequence[Run]) -> str:
    """What has changed since, so that it does not hold any more, in a clause; empty if nothing has."""
    return _changed(quality, runs, {run.id: cached_sha256(run.onnx) for run in runs})


def keep_quality(ensembles: Sequence[Sequence[Run]], quality: Quality) -> None:
    """Write it where it is found by the runs of each of its ensembles."""
    for runs in ensembles:
        write_json(_home(runs).folder / FILE, quality)


def member_of(run: Run) -> Member:
    """A run as it is now."""
    return Member(run.id, cached_sha256(run.onnx), cached_sha256(run.folder / POINT))


def _home(runs: Sequence[Run]) -> Run:
    """Whichever order they come in."""
    return min(runs, key=lambda run: run.id)


def _changed(quality: Quality, runs: Sequence[Run], used: dict[str, str]) -> str:
    """By the models that were `used`, run id -> SHA-256, and by what the folders and the dataset are now."""
    known = {member.run: member for each in quality.ensembles for member in each}
    for run in runs:
        if known[run.id].model_sha256 != used[run.id]:
            return _again(f"the model of {run.id} has changed")
        if known[run.id].point_sha256 != member_of(run).point_sha256:
            return _again(f"the operating point of {run.id} has changed")
    try:
        now = load_dataset(quality.dataset.partition("@")[0])
    except CovsegError:  # it is not here; what was learned from it stays true
        return ""
    return "" if now.fingerprint == quality.fingerprint else _again(f"dataset {now.name} has changed")


def _again(what: str) -> str:
    return f"{what} since it was measured; `covseg quality` measures again"


def _otherwise(known: Way, way: Way, thresholds: Thresholds, own: Thresholds) -> str:
    """In which way the models are used that nothing is known of; empty if they are used as they were measured."""
    many = max(len(thresholds.each), len(own.each), 1)
    if (thresholds.of(many), thresholds.minimum_mm3) != (own.of(many), own.minimum_mm3):
        return "it was measured with the models at their operating points"
    if way.combine != known.combine:
        return f"it was measured with the models combined by {known.combine}"
    if way.mirror != known.mirror:
        return f"it was measured {'with' if known.mirror else 'without'} mirror images"
    if way.precision != known.precision:
        return f"it was measured in {known.precision}"
    if way.lungs_sha256 != known.lungs_sha256:
        return f"it was measured {'with another lung model' if known.lungs_sha256 else 'without a lung model'}"
    if way.keep_beyond != known.keep_beyond:
        return "it was measured with what lies beyond the chest left out"
    return ""
