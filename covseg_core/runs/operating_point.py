"""The threshold and smallest size at which a run's model is used: `operating_point.json` in the run's folder.

It is picked on the validation part, never on the test part: scores of a point that was picked where it is scored are
too good. It travels with the model, and prediction uses it unless told another threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from covseg_core.errors import CovsegError
from covseg_core.files import read_json, sha256_file
from covseg_core.runs import Run

FILE = "operating_point.json"
VERSION = 1
DEFAULT = 0.5
"""Threshold without an operating point; the smallest size is 0 then."""
PEAKS = (0.0, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Peaks that a point may have. Those near 1 tell most: a network is soon sure of what it has learned well."""
Unit = Literal["mm3", "voxels"]


@dataclass(frozen=True)
class OperatingPoint:
    """What was best on validation, and how good that is there."""

    version: int
    created: str
    """ISO 8601, UTC."""
    model_sha256: str
    """Of the `model.onnx` that it was picked for."""
    chosen_on: Literal["validation"]
    measure: str
    """Of all scores here."""
    threshold: float
    minimum: float
    """Connected parts of the mask that are smaller are left out, in `unit`."""
    unit: Unit
    """Voxels, of the scan, where the spacing of a validation scan is unknown."""
    score: float
    score_at_half: float
    """At threshold 0.5 with all parts: what the point is better than."""
    alone: float
    """The best threshold with parts of any size: for scans on which the smallest size cannot be measured."""
    score_alone: float
    scans: int
    """Validation scans; see `measure` for which of them count."""
    slices: int
    peak: float = 0.0
    """Connected parts whose probability nowhere reaches it are left out, as by a threshold with hysteresis; 0 leaves
    none out."""

    @property
    def words(self) -> str:
        """As the function `words`."""
        return words(self.threshold, self.minimum, self.peak, self.unit)


@dataclass(frozen=True)
class Threshold:
    """What counts of a model's answer."""

    threshold: float = DEFAULT
    """Probability from which a voxel is in the mask."""
    minimum_mm3: float = 0.0
    """Connected parts of the mask that are smaller are left out."""
    peak: float = 0.0
    """So are those whose probability nowhere reaches this."""


@dataclass(frozen=True)
class Thresholds:
    """What to predict with: the same for all models, or for each its own."""

    threshold: float = DEFAULT
    minimum_mm3: float = 0.0
    peak: float = 0.0
    why: str = ""
    """Where it comes from, to be shown; empty without any operating point."""
    each: tuple[Threshold, ...] = ()
    """Of each model, in their order, where they differ. Then `threshold` and `peak` are those of no model, and
    `minimum_mm3` holds for the combined mask."""

    def of(self, models: int) -> tuple[Threshold, ...]:
        """Of so many models, in their order."""
        return self.each or (Threshold(self.threshold, self.minimum_mm3, self.peak),) * models

    @property
    def words(self) -> str:
        """`threshold 0.35, parts from 20 mm³: the operating point of the run`."""
        if not self.each:
            return f"{words(self.threshold, self.minimum_mm3, self.peak)}: {self.why}"
        return f"each model at its own{f', {self.words_of_combined}' if self.minimum_mm3 else ''}: {self.why}"

    @property
    def words_of_combined(self) -> str:
        """`parts of the combined mask from 20 mm³ (the median)`: `minimum_mm3` where each model has its own."""
        return f"parts of the combined mask from {self.minimum_mm3:g} mm³ (the median)"


def words(threshold: float, minimum: float, peak: float = 0.0, unit: Unit = "mm3") -> str:
    """A threshold, a smallest size and a peak.

    >>> words(0.35, 20), words(0.5, 0), words(0.5, 0, 0.9)
    ('threshold 0.35, parts from 20 mm³', 'threshold 0.5, parts of any size', 'threshold 0.5, parts that reach 0.9')
    """
    size = f" from {minimum:g} {'mm³' if unit == 'mm3' else unit}" if minimum else ""
    reach = f" that reach {peak:g}" if peak > threshold else ""
    return f"threshold {threshold:g}, parts{size + reach or ' of any size'}"


def read_point(run: Run) -> OperatingPoint | None:
    """The operating point of a run's present model; None if it has none, or one that cannot be used."""
    try:
        point = read_json(run.folder / FILE, OperatingPoint)
        if point.version != VERSION or point.model_sha256 != sha256_file(run.onnx):
            return None
    except (CovsegError, OSError):
        return None
    return point


def thresholds_of(runs: Sequence[Run], spacing_known: bool = True) -> Thresholds:
    """What several models are used at: each at its operating point, one without at threshold 0.5 with all parts.

    The mask of all leaves out parts below the median of the models' smallest sizes, which stands for the majority.

    Parameters
    ----------
    runs : to be combined, or the only one
    spacing_known : whether parts of the scan can be measured in mm3
    """
    points = [read_point(run) for run in runs]
    if not any(points):
        return Thresholds()
    usable = [(Threshold(), "") if point is None else _usable(point, spacing_known) for point in points]
    cuts, notes = tuple(cut for cut, _ in usable), "".join(dict.fromkeys(note for _, note in usable))
    many = len(runs) > 1
    if len(set(cuts)) == 1:
        why = f"the operating point of the run{'s' * many}{notes}"
        return Thresholds(**vars(cuts[0]), why=why)
    without = [run.id for run, point in zip(runs, points, strict=True) if point is None]
    why = f"the operating points of the runs{_without(without)}{notes}"
    return Thresholds(minimum_mm3=float(median(cut.minimum_mm3 for cut in cuts)), why=why, each=cuts)


def _without(ids: Sequence[str]) -> str:
    """That these runs have no point; nothing if there are none."""
    if not ids:
        return ""
    named = " and ".join(ids) if len(ids) < 3 else f"{len(ids)} of them"
    return f", {DEFAULT:g} for {named}, which {'has' if len(ids) == 1 else 'have'} none"


def _usable(point: OperatingPoint, spacing_known: bool) -> tuple[Threshold, str]:
    """What can be used of a point on a scan, and what there is to say about that."""
    if not point.minimum or (point.unit == "mm3" and spacing_known):
        return Threshold(point.threshold, point.minimum, point.peak), ""
    why = "the scan's voxel size is not known" if point.unit == "mm3" else "it was picked in voxels"
    return Threshold(point.alone, 0.0, point.peak), f" without a smallest size, since {why}"
