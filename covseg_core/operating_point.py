"""The threshold and smallest size at which a run's model is used: `operating_point.json` in the run's folder.

It is picked on the validation part (`evaluation.operating`), never on the test part: scores of a point that was picked
where it is scored are too good. It travels with the model, and prediction uses it unless told another threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from covseg_core.errors import CovsegError
from covseg_core.files import read_json, sha256_file
from covseg_core.runs import Run

FILE = "operating_point.json"
VERSION = 1
DEFAULT = 0.5
"""Threshold without an operating point; the smallest size is 0 then."""
Unit = Literal["mm3", "px"]


@dataclass(frozen=True)
class OperatingPoint:
    """A pair that was best on validation, and how good that is there."""

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
    """px, pixels of the scan, where the spacing of a validation scan is unknown."""
    score: float
    score_at_half: float
    """At threshold 0.5 with all parts: what the point is better than."""
    alone: float
    """The best threshold with all parts: for scans on which the smallest size cannot be measured."""
    score_alone: float
    scans: int
    """Validation scans; see `measure` for which of them count."""
    slices: int

    @property
    def words(self) -> str:
        """`threshold 0.35, parts from 20 mm³`."""
        return words(self.threshold, self.minimum, self.unit)


@dataclass(frozen=True)
class Setting:
    """What to predict with."""

    threshold: float = DEFAULT
    minimum_mm3: float = 0.0
    why: str = ""
    """Where it comes from, to be shown; empty without any operating point."""

    @property
    def words(self) -> str:
        """`threshold 0.35, parts from 20 mm³: the operating point of the run`."""
        return f"{words(self.threshold, self.minimum_mm3)}: {self.why}"


def words(threshold: float, minimum: float, unit: Unit = "mm3") -> str:
    """A threshold and a smallest size.

    >>> words(0.35, 20), words(0.5, 0)
    ('threshold 0.35, parts from 20 mm³', 'threshold 0.5, parts of any size')
    """
    size = f"parts from {minimum:g} {'mm³' if unit == 'mm3' else unit}" if minimum else "parts of any size"
    return f"threshold {threshold:g}, {size}"


def read_point(run: Run) -> OperatingPoint | None:
    """The operating point of a run's present model; None if it has none, or one that cannot be used."""
    try:
        point = read_json(run.folder / FILE, OperatingPoint)
        if point.version != VERSION or point.model_sha256 != sha256_file(run.onnx):
            return None
    except (CovsegError, OSError):
        return None
    return point


def setting_of(runs: Sequence[Run], spacing_known: bool = True) -> Setting:
    """What several models are used at: the operating point that they share, else threshold 0.5 with all parts.

    Parameters
    ----------
    runs : that vote, or the only one
    spacing_known : whether parts of the scan can be measured in mm3
    """
    points = [read_point(run) for run in runs]
    settings = {_usable(point, spacing_known) for point in points if point is not None}
    if not settings:
        return Setting()
    if None in points or len(settings) > 1:
        return Setting(why="the runs have no operating point in common")
    threshold, minimum, note = settings.pop()
    return Setting(threshold, minimum, f"the operating point of the run{'s' * (len(runs) > 1)}{note}")


def _usable(point: OperatingPoint, spacing_known: bool) -> tuple[float, float, str]:
    """Threshold, smallest size in mm3, and what there is to say about them."""
    if not point.minimum or (point.unit == "mm3" and spacing_known):
        return point.threshold, point.minimum, ""
    why = "the scan's voxel size is not known" if point.unit == "mm3" else "its smallest size is in px"
    return point.alone, 0.0, f" without a smallest size, since {why}"
