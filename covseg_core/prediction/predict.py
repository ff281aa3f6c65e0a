"""The mask of one scan by one or several models, on the scan's own grid, with a report.

Several models vote, voxel by voxel: a voxel is in the mask when more than half of the models have it in theirs. A tie,
which an even number of models can have, is left out; the report says how many voxels that are.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covseg_core.config import Target
from covseg_core.data.intensity import Scale
from covseg_core.data.volumes import Volume
from covseg_core.errors import SettingError
from covseg_core.operating_point import DEFAULT, Setting, setting_of
from covseg_core.prediction.checking import CheckedScan, check_scan
from covseg_core.prediction.chest import leave_out_beyond
from covseg_core.prediction.components import large_parts, smallest_voxels
from covseg_core.prediction.inference import Cancel, Progress, Segmenter, stop_if
from covseg_core.prediction.keeping import Keeper
from covseg_core.prediction.lungs import LungReport, body_middle, clean_lungs, measure_lungs, split_lungs
from covseg_core.prediction.passport import make_passport, unlike
from covseg_core.prediction.probabilities import Advance, Probabilities, answered, counter, segment
from covseg_core.prediction.report import (
    NOTICE,
    MaskReport,
    ModelReport,
    Report,
    now,
    report_mask,
    report_scan,
    versions,
    voxel_ml,
)
from covseg_core.prediction.writing import LUNG_MASK, MASK, Files, check_files, write_files
from covseg_core.runs import Run

MAX_MODELS = 100
LUNG_THRESHOLD = 0.5
"""Probability from which a voxel is lung, whatever the threshold of the infection."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A scan, its mask, and the masks of the models that voted."""

    scan: Volume
    mask: np.ndarray
    """(Z, Y, X) uint8 0/1, RAS+, as `scan.voxels`."""
    report: Report
    output: Path | None
    replaced: tuple[str, ...]
    """Files of an earlier prediction that were in the output folder and are gone or new now."""
    packed: dict[str, np.ndarray] = field(repr=False)
    """Masks of the single models by run id, one bit a voxel; `mask_of` unpacks them."""
    lungs: np.ndarray | None = None
    """(Z, Y, X) uint8: 0 no lung, 1 the patient's right, 2 the left; None where no lung model was asked."""

    def mask_of(self, run: str) -> np.ndarray:
        """(Z, Y, X) uint8 0/1: the mask of one model."""
        return np.unpackbits(self.packed[run], count=self.mask.size).reshape(self.mask.shape)


def predict_scan(
    path: str | os.PathLike[str],
    runs: Sequence[Run],
    output: str | os.PathLike[str] | None = None,
    threshold: float | None = 0.5,
    scale: Scale | None = None,
    series: str | None = None,
    minimum_mm3: float = 0.0,
    lungs: Run | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    keep_beyond: bool = False,
) -> Prediction:
    """Predict the mask of a scan, and write it if an output folder is given.

    The folder gets the files that docs/prediction.md lists: all of them, or on any error none. Files of an earlier
    prediction in it are replaced and other files stay. A file that was edited since, or is not covseg's, is never
    overwritten: that is an error.

    Parameters
    ----------
    path : a scan that `data.opening.open_scan` reads: NIfTI, DICOM as folder, file or zip, or a picture
    runs : the models, all of one target; each has its own way to prepare slices
    threshold : probability from which a voxel is in a mask, above 0 and below 1; None for threshold and smallest size
        of the runs' operating point (`operating_point.setting_of`)
    scale : of the scan's values; None to detect it
    series : key of the DICOM series, where several can be used
    minimum_mm3 : connected parts of a mask that are smaller are left out, of the vote's and of each model's
    lungs : a lung model, beside models of infection, to report shares of each lung, and to leave out what lies beyond
        the chest (`chest.leave_out_beyond`)
    progress : called with the slices done, over all models, and those there are
    cancel : looked at before each batch
    keep_beyond : leave nothing out

    Raises
    ------
    SettingError : no run, one twice, several targets, a threshold out of range, an output folder that cannot be used, a
        smallest size where the voxel size is not known
    RunError : a run without `model.onnx`, or with one that cannot be used
    ScanError : the scan is not readable, is a mask, or not of a chest; `SeriesChoice` if a series has to be chosen
    CovsegError : writing failed
    Cancelled : `cancel` was set; nothing is written
    """
    started = time.perf_counter()
    given = DEFAULT if threshold is None else threshold
    target = _check_request([(run.id, run.config.target) for run in runs], given, minimum_mm3)
    if lungs:
        _check_lungs(target, lungs.config.target, lungs.id)
    ids = [run.id for run in runs]
    check_files(ids, output, lungs is not None)
    asked = [*runs, lungs] if lungs else list(runs)
    segmenters = [Segmenter(run) for run in asked]
    scan = check_scan(path, scale, series)
    setting = Setting(given, minimum_mm3)
    if threshold is None:
        setting = setting_of(runs, voxel_ml(scan.volume) is not None)
        minimum_mm3 = setting.minimum_mm3
    _check_size(scan, minimum_mm3)
    files = check_files(ids, output, lungs is not None, scan.kind)
    advance = counter(progress, cancel, len(scan.volume.voxels) * len(asked))
    with Keeper() as keeper:
        answers = list(_ask(scan, asked, segmenters, keeper, advance, cancel))
        lung = answers.pop() if lungs else None
        return _decide(
            scan, target, answers, lung, setting.threshold, minimum_mm3, keep_beyond, started, files, cancel,
            operating=setting.words if setting.why else "",
        )  # fmt: skip


def predict_at(
    scan: CheckedScan,
    answers: Sequence[Probabilities],
    threshold: float = 0.5,
    output: str | os.PathLike[str] | None = None,
    cancel: Cancel | None = None,
    minimum_mm3: float = 0.0,
    lungs: Probabilities | None = None,
    keep_beyond: bool = False,
    sides: np.ndarray | None = None,
) -> Prediction:
    """The prediction that `predict_scan` makes, from probabilities that are there already.

    Parameters
    ----------
    scan : the one that the models were asked about
    answers : of models of one target
    threshold : probability from which a voxel is in a mask, above 0 and below 1
    output, minimum_mm3, keep_beyond : as for `predict_scan`
    lungs : the answer of a lung model, beside those of models of infection
    sides : what `lung_sides` makes of it, where that is there already: it is the same at every threshold

    Raises
    ------
    SettingError : as for `predict_scan`
    CovsegError : writing failed
    Cancelled : `cancel` was set; nothing is written
    """
    asked = [*answers, lungs] if lungs else answers
    started = time.perf_counter() - sum(answer.seconds for answer in asked)
    target = _check_request([(answer.model.run, answer.target) for answer in answers], threshold, minimum_mm3)
    if lungs:
        _check_lungs(target, lungs.target, lungs.model.run)
    _check_size(scan, minimum_mm3)
    files = check_files([answer.model.run for answer in answers], output, lungs is not None, scan.kind)
    return _decide(scan, target, answers, lungs, threshold, minimum_mm3, keep_beyond, started, files, cancel, sides)


def lung_sides(scan: CheckedScan, lung: Probabilities) -> np.ndarray:
    """Which lung each voxel is in, by the answer of a lung model: (Z, Y, X) uint8, as `lungs.split_lungs`."""
    mask = np.empty(scan.volume.voxels.shape, np.uint8)
    for part, probabilities in lung.planes():
        np.greater_equal(probabilities, LUNG_THRESHOLD, out=mask[part].view(bool))
    mask = clean_lungs(mask)
    return split_lungs(mask, body_middle(scan.volume.voxels, scan.scale, mask))


def _check_request(models: Sequence[tuple[str, Target]], threshold: float, minimum_mm3: float) -> Target:
    """The common target of models, given by id and target."""
    if not 0 < threshold < 1:
        raise SettingError("threshold", f"{threshold:g}", "above 0 and below 1")
    if not (math.isfinite(minimum_mm3) and minimum_mm3 >= 0):
        raise SettingError("smallest size", f"{minimum_mm3:g} mm3", "0 or more")
    ids = [id for id, _ in models]
    if not 1 <= len(ids) <= MAX_MODELS:
        raise SettingError("runs", f"{len(ids)} of them", f"1 to {MAX_MODELS}")
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise SettingError("runs", f"{twice[0]} more than once", "each run once: it has one vote")
    targets = {target: id for id, target in models}
    if len(targets) > 1:
        found = " and ".join(f"{target} ({id})" for target, id in sorted(targets.items()))
        raise SettingError("runs", f"models of different targets: {found}", "models of one target")
    return next(iter(targets))


def _check_lungs(target: Target, lungs: Target, id: str) -> None:
    """Make sure that what is asked for lungs is a lung model, and that there is infection to set beside them."""
    if lungs != "lung":
        raise SettingError("lungs", f"{id} is a model of the infection", "a model of the lungs")
    if target == "lung":
        raise SettingError("lungs", f"{id} beside models of the lungs themselves", "none")


def _check_size(scan: CheckedScan, minimum_mm3: float) -> None:
    if minimum_mm3 and voxel_ml(scan.volume) is None:
        raise SettingError("smallest size", f"{minimum_mm3:g} mm3, but the scan's voxel size is not known", "0")


def _ask(
    scan: CheckedScan,
    runs: Sequence[Run],
    segmenters: list[Segmenter],
    keeper: Keeper,
    advance: Advance,
    cancel: Cancel | None,
) -> Iterator[Probabilities]:
    """The answers of the models, one after another."""
    passport = make_passport(scan)
    for run in runs:
        started = time.perf_counter()
        # popped, since a session keeps the memory of its largest batch
        segmenter = segmenters.pop(0)
        size = segmenter.prepare.size
        values = keeper.keep(segment(scan, segmenter, advance, cancel), (len(scan.volume.voxels), size, size))
        del segmenter
        yield answered(scan, run, values, time.perf_counter() - started, passport)


def _decide(
    scan: CheckedScan,
    target: Target,
    answers: Sequence[Probabilities],
    lung: Probabilities | None,
    threshold: float,
    minimum_mm3: float,
    keep_beyond: bool,
    started: float,
    files: Files | None,
    cancel: Cancel | None,
    sides: np.ndarray | None = None,
    operating: str = "",
) -> Prediction:
    """Threshold the answers, let them vote, measure, report, and write if there are files to be written."""
    volume, number = scan.volume, len(answers)
    mask, tied, packed = _vote(answers, volume.voxels.shape, threshold)
    if lung is None:
        sides = None
    elif sides is None:
        sides = lung_sides(scan, lung)
    ml = voxel_ml(volume)
    spacing = None if ml is None else volume.spacing
    beyond = 0
    """Voxels of the last mask measured, which is the vote's."""

    def measured(mask: np.ndarray, file: str | None) -> tuple[np.ndarray, MaskReport]:
        nonlocal beyond
        if sides is not None and not keep_beyond:
            mask, beyond = leave_out_beyond(mask, sides, spacing)
        least = smallest_voxels(minimum_mm3, 1000 * ml) if ml is not None else 1
        mask, sizes = large_parts(mask, least)
        size = report_mask(mask, volume, file, sizes)
        return mask, size if sides is None else dataclasses.replace(size, lung_share=_share(mask, sides))

    models: list[ModelReport] = []
    for answer in answers:
        stop_if(cancel)
        run = answer.model.run
        own = np.unpackbits(packed[run], count=mask.size).reshape(mask.shape)
        own, size = measured(own, files.models.get(run) if files else None)
        packed[run] = np.packbits(own)
        models.append(dataclasses.replace(answer.model, mask=size))
    if number > 1:
        mask, mask_report = measured(mask, MASK if files else None)
    else:  # measured already
        mask, mask_report = own, dataclasses.replace(models[0].mask, file=MASK if files else None)
    lungs: LungReport | None = None
    warnings = _warnings(scan, [*answers, lung] if lung else answers)
    if lung is not None and sides is not None:
        model = (lung.model.run, lung.model.sha256)
        lungs = measure_lungs(sides, mask, spacing, ml, model, LUNG_MASK if files else None, beyond)
        warnings += lungs.warnings
    report = Report(
        notice=NOTICE,
        created=now(),
        seconds=round(time.perf_counter() - started, 3),
        target=target,
        threshold=threshold,
        vote="more than half of the models; a tie is left out" if number > 1 else "one model, no vote",
        tied_voxels=tied,
        scan=report_scan(volume, scan.scale, scan.sha256),
        mask=mask_report,
        models=tuple(models),
        warnings=warnings,
        versions=versions(),
        files={},
        minimum_mm3=minimum_mm3,
        lungs=lungs,
        passport=make_passport(scan),
        operating=operating,
    )
    prediction = Prediction(volume, mask, report, None, (), packed, sides)
    if files is None:
        return prediction
    report = write_files(files, scan, report, mask, prediction.mask_of, sides, answers, cancel)
    return dataclasses.replace(prediction, report=report, output=files.folder, replaced=files.replaced)


def _vote(
    answers: Sequence[Probabilities], shape: tuple[int, ...], threshold: float
) -> tuple[np.ndarray, int, dict[str, np.ndarray]]:
    """The vote's mask (Z, Y, X) uint8 0/1, the voxels that are tied, and the models' masks, one bit a voxel."""
    votes, number = np.zeros(shape, np.uint8), len(answers)
    packed = {}
    for answer in answers:
        own = np.empty(shape, np.uint8)
        for part, probabilities in answer.planes():
            np.greater_equal(probabilities, threshold, out=own[part].view(bool))
        votes += own
        packed[answer.model.run] = np.packbits(own)
        del own
    tied = sum(int(np.count_nonzero(plane == number / 2)) for plane in votes)
    return np.greater(votes, number // 2, out=votes.view(bool)).view(np.uint8), tied, packed


def _share(mask: np.ndarray, sides: np.ndarray) -> float | None:
    """Share of the lungs that is in a mask; None without lungs."""
    lung = sum(int(np.count_nonzero(plane)) for plane in sides)
    both = sum(int(np.count_nonzero(plane & (side > 0))) for plane, side in zip(mask, sides, strict=True))
    return both / lung if lung else None


def _warnings(scan: CheckedScan, answers: Sequence[Probabilities]) -> tuple[str, ...]:
    odd = unlike({answer.model.run: answer.unusual for answer in answers})
    return (*scan.warnings, *(warning for answer in answers for warning in answer.warnings), *odd)
