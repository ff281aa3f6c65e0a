"""What is asked for beside the scan: models, and how they are used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from covseg_core.config import Target
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import SettingError
from covseg_core.prediction.ask import check_lungs, check_precision
from covseg_core.prediction.combination import Combine, check_combine
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.inference import check_model
from covseg_core.prediction.scan import Scan
from covseg_core.runs import Run
from covseg_core.runs.lung_model import shipped_lungs
from covseg_core.runs.operating_point import DEFAULT, Thresholds, thresholds_of

MAX_MODELS = 100


@dataclass(frozen=True)
class Request:
    """What is asked for beside the scan; the same for many. `asked_for` makes one."""

    runs: tuple[Run, ...]
    lungs: Run | None
    given: Thresholds | None
    """Of all models alike; None for their operating points."""
    scale: Scale | None
    keep_beyond: bool
    combine: Combine
    mirror: bool
    precision: Precision
    keep_patient: bool

    @property
    def all(self) -> tuple[Run, ...]:
        """The lung model comes last."""
        return (*self.runs, self.lungs) if self.lungs else self.runs

    def thresholds(self, scan: Scan) -> Thresholds:
        """What models are used at on a scan; raises `SettingError` for a smallest size that cannot be measured."""
        thresholds = self.given or thresholds_of(self.runs, scan.voxel_ml is not None)
        check_size(scan, thresholds)
        return thresholds


def asked_for(
    runs: Run | Sequence[Run],
    lungs: Run | Literal["shipped"] | None = "shipped",
    threshold: float | None = None,
    minimum_mm3: float | None = None,
    peak: float | None = None,
    scale: Scale | None = None,
    keep_beyond: bool = False,
    combine: Combine = "mean",
    mirror: bool = False,
    precision: Precision = "float32",
    keep_patient: bool = False,
) -> Request:
    """What `predict` is asked for beside the scan; raises `SettingError` as it does."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if lungs == "shipped":
        lungs = None if any(run.config.target == "lung" for run in runs) else shipped_lungs()
    check_combine(combine)
    given = Thresholds(DEFAULT if threshold is None else threshold, minimum_mm3 or 0.0, peak or 0.0)
    check_combined([*map(_named, runs)], given, _named(lungs) if lungs else None)
    own = threshold is None and minimum_mm3 is None and peak is None
    at = None if own else given
    return Request(tuple(runs), lungs, at, scale, keep_beyond, combine, mirror, precision, keep_patient)


def check_request(request: Request) -> None:
    """Raise `RunError` or `SettingError` as `predict` does, unless the models can be asked so, whatever the scan."""
    for run in request.all:
        check_model(run)
    check_lungs(request.runs, request.lungs)
    check_precision(request.runs, request.precision)


def check_combined(
    models: Sequence[tuple[str, Target]], thresholds: Thresholds, lungs: tuple[str, Target] | None
) -> None:
    """Make sure that models, given by id and target, can be combined, and that these thresholds can be theirs."""
    for at in (*dataclasses.replace(thresholds, each=()).of(1), *thresholds.each):
        if not 0 < at.threshold < 1:
            raise SettingError("threshold", f"{at.threshold:g}", "above 0 and below 1")
        if not (math.isfinite(at.minimum_mm3) and at.minimum_mm3 >= 0):
            raise SettingError("smallest size", f"{at.minimum_mm3:g} mm3", "0 or more")
        if not 0 <= at.peak < 1:
            raise SettingError("peak", f"{at.peak:g}", "from 0 to below 1")
    ids = [id for id, _ in models]
    if len(thresholds.each) not in (0, len(ids)):
        raise SettingError("thresholds", f"{len(thresholds.each)} of them", f"one for each of {len(ids)} models")
    if not 1 <= len(ids) <= MAX_MODELS:
        raise SettingError("runs", f"{len(ids)} of them", f"1 to {MAX_MODELS}")
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise SettingError("runs", f"{twice[0]} more than once", "each run once")
    targets = {target: id for id, target in models}
    if len(targets) > 1:
        found = " and ".join(f"{target} ({id})" for target, id in sorted(targets.items()))
        raise SettingError("runs", f"models of different targets: {found}", "models of one target")
    if lungs is None:
        return
    id, target = lungs
    if target != "lung":
        raise SettingError("lungs", f"{id} is a model of the infection", "a model of the lungs")
    if "lung" in targets:
        raise SettingError("lungs", f"{id} beside models of the lungs themselves", "none")


def check_size(scan: Scan, thresholds: Thresholds) -> None:
    """Raise `SettingError` if parts are to be left out for their size, and it cannot be measured."""
    largest = max([thresholds.minimum_mm3, *(at.minimum_mm3 for at in thresholds.each)])
    if largest and scan.voxel_ml is None:
        raise SettingError("smallest size", f"{largest:g} mm3, but the scan's voxel size is not known", "0")


def _named(run: Run) -> tuple[str, Target]:
    return run.id, run.config.target
