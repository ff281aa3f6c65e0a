"""The mask of one scan by one or several models, on the scan's own grid, with a report.

Several models vote, voxel by voxel: a voxel is in the mask when more than half of the models have it in theirs. A tie,
which an even number of models can have, is left out; the report says how many voxels that are.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covseg_core.config import Target
from covseg_core.data.intensity import Scale
from covseg_core.data.slices import to_native
from covseg_core.data.volumes import Volume, save_mask
from covseg_core.errors import SettingError
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.checking import CheckedScan, check_scan, training_warning
from covseg_core.prediction.inference import Cancel, Progress, Segmenter, stop_if
from covseg_core.prediction.outputs import REPORT, check_output, whole_folder
from covseg_core.prediction.probabilities import Probabilities, counter, grid_of, segment
from covseg_core.prediction.report import (
    NOTICE,
    ModelReport,
    Report,
    now,
    report_mask,
    report_model,
    report_scan,
    versions,
)
from covseg_core.runs import Run

MASK = "mask.nii.gz"
MAX_MODELS = 100

_Answer = tuple[ModelReport, Iterable[tuple[slice, np.ndarray]]]
"""A model, and its probabilities on the scan's own grid, a few planes at a time."""


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

    def mask_of(self, run: str) -> np.ndarray:
        """(Z, Y, X) uint8 0/1: the mask of one model."""
        return np.unpackbits(self.packed[run], count=self.mask.size).reshape(self.mask.shape)


def predict_scan(
    path: str | os.PathLike[str],
    runs: Sequence[Run],
    output: str | os.PathLike[str] | None = None,
    threshold: float = 0.5,
    scale: Scale | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Prediction:
    """Predict the mask of a scan, and write it if an output folder is given.

    The folder gets `mask.nii.gz`, for several models also `mask_<run>.nii.gz` each, and `report.json`: all of them, or
    on any error none. Files of an earlier prediction in it are replaced and other files stay. A mask that was edited
    since, or is not covseg's, is never overwritten: that is an error.

    Parameters
    ----------
    path : a scan that `volumes.load_scan` reads
    runs : the models, all of one target; each has its own way to prepare slices
    threshold : probability from which a voxel is in a mask, above 0 and below 1
    scale : of the scan's values; None to detect it
    progress : called with the slices done, over all models, and those there are
    cancel : looked at every few slices

    Raises
    ------
    SettingError : no run, one twice, several targets, a threshold out of range, an output folder that cannot be used
    RunError : a run without `model.onnx`, or with one that cannot be used
    ScanError : the scan is not readable, or not of a chest
    CovsegError : writing failed
    Cancelled : `cancel` was set; nothing is written
    """
    started = time.perf_counter()
    target = _check_request([(run.id, run.config.target) for run in runs], threshold)
    files = _checked_files([run.id for run in runs], output)
    segmenters = [Segmenter(run) for run in runs]
    scan = check_scan(path, scale)
    warnings = [*scan.warnings, *(warning for run in runs for warning in training_warning(run, scan.sha256))]
    advance = counter(progress, cancel, len(scan.volume.voxels) * len(runs))

    def answers() -> Iterator[_Answer]:
        for run in runs:
            # popped, since a session keeps the memory of its largest batch
            segmenter = segmenters.pop(0)
            grid = grid_of(scan, segmenter.prepare)
            blocks = segment(scan, segmenter, advance, cancel)
            yield report_model(run), ((part, to_native(values, grid)) for part, values in blocks)

    prediction = _decide(scan, target, answers(), len(runs), threshold, warnings, started, files)
    return _written(prediction, files, cancel) if files else prediction


def predict_at(
    scan: CheckedScan,
    answers: Sequence[Probabilities],
    threshold: float = 0.5,
    output: str | os.PathLike[str] | None = None,
    cancel: Cancel | None = None,
) -> Prediction:
    """The prediction that `predict_scan` makes, from probabilities that are there already.

    Parameters
    ----------
    scan : the one that the models were asked about
    answers : of models of one target
    threshold : probability from which a voxel is in a mask, above 0 and below 1
    output : as for `predict_scan`

    Raises
    ------
    SettingError : as for `predict_scan`
    CovsegError : writing failed
    Cancelled : `cancel` was set; nothing is written
    """
    started = time.perf_counter() - sum(answer.seconds for answer in answers)
    target = _check_request([(answer.model.run, answer.target) for answer in answers], threshold)
    files = _checked_files([answer.model.run for answer in answers], output)
    warnings = [*scan.warnings, *(warning for answer in answers for warning in answer.warnings)]
    planes = ((answer.model, answer.planes()) for answer in answers)
    prediction = _decide(scan, target, planes, len(answers), threshold, warnings, started, files)
    return _written(prediction, files, cancel) if files else prediction


@dataclass(frozen=True)
class _Files:
    """Where a prediction goes."""

    folder: Path
    models: dict[str, str]
    """Names of the models' own masks by run id; none for a single model."""
    replaced: tuple[str, ...]


def _checked_files(ids: Sequence[str], output: str | os.PathLike[str] | None) -> _Files | None:
    """None without an output folder; raises `SettingError` if it cannot be used."""
    if output is None:
        return None
    models = {id: f"mask_{id}.nii.gz" for id in ids} if len(ids) > 1 else {}
    folder = Path(output)
    return _Files(folder, models, check_output(folder, [MASK, *models.values(), REPORT]))


def _check_request(models: Sequence[tuple[str, Target]], threshold: float) -> Target:
    """The common target of models, given by id and target."""
    if not 0 < threshold < 1:
        raise SettingError("threshold", f"{threshold:g}", "above 0 and below 1")
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


def _decide(
    scan: CheckedScan,
    target: Target,
    answers: Iterable[_Answer],
    number: int,
    threshold: float,
    warnings: Sequence[str],
    started: float,
    files: _Files | None,
) -> Prediction:
    """Threshold the answers of `number` models one after another, let them vote, and report."""
    volume = scan.volume
    votes = np.zeros(volume.voxels.shape, np.uint8)
    packed, models = {}, []
    for model, planes in answers:
        mask = np.empty(votes.shape, np.uint8)
        for part, probabilities in planes:
            np.greater_equal(probabilities, threshold, out=mask[part].view(bool))
        votes += mask
        packed[model.run] = np.packbits(mask)
        own = files.models.get(model.run) if files else None
        models.append(dataclasses.replace(model, mask=report_mask(mask, volume, own)))
        del mask
    tied = sum(int(np.count_nonzero(plane == number / 2)) for plane in votes)
    mask = np.greater(votes, number // 2, out=votes.view(bool)).view(np.uint8)
    report = Report(
        notice=NOTICE,
        created=now(),
        seconds=round(time.perf_counter() - started, 3),
        target=target,
        threshold=threshold,
        vote="more than half of the models; a tie is left out" if number > 1 else "one model, no vote",
        tied_voxels=tied,
        scan=report_scan(volume, scan.scale, scan.sha256),
        mask=report_mask(mask, volume, MASK if files else None),
        models=tuple(models),
        warnings=tuple(warnings),
        versions=versions(),
        files={},
    )
    return Prediction(volume, mask, report, None, (), packed)


def _written(prediction: Prediction, files: _Files, cancel: Cancel | None) -> Prediction:
    """Write masks and report, and return the prediction with the report as written."""
    geometry = prediction.scan.geometry
    with whole_folder(files.folder) as staging:
        save_mask(prediction.mask, geometry, staging / MASK)
        for run, name in files.models.items():
            save_mask(prediction.mask_of(run), geometry, staging / name)
        written = {name: sha256_file(staging / name) for name in (MASK, *files.models.values())}
        report = dataclasses.replace(prediction.report, files=written)
        write_json(staging / REPORT, report)
        stop_if(cancel)
    return dataclasses.replace(prediction, report=report, output=files.folder, replaced=files.replaced)
