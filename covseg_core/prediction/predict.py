"""The mask of one scan by one or several models, on the scan's own grid, with a report.

Several models vote, voxel by voxel: a voxel is in the mask when more than half of the models have it in theirs. A tie,
which an even number of models can have, is left out; the report says how many voxels that are.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covseg_core.config import Target
from covseg_core.data.datasets import load_dataset
from covseg_core.data.intensity import Scale, detect_scale, to_uint8
from covseg_core.data.lungs import check_chest
from covseg_core.data.slices import Grid, to_images, to_native
from covseg_core.data.volumes import Volume, load_scan, save_mask
from covseg_core.errors import CovsegError, SettingError
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.inference import Cancel, Progress, Segmenter, stop_if
from covseg_core.prediction.outputs import REPORT, check_output, whole_folder
from covseg_core.prediction.report import (
    NOTICE,
    Report,
    now,
    report_mask,
    report_model,
    report_scan,
    versions,
    voxel_ml,
)
from covseg_core.runs import Run

MASK = "mask.nii.gz"
MAX_MODELS = 100

_PLANES = 16
"""Planes brought back to the scan's grid at a time: as float32, all of a 512 x 512 x 600 scan take 630 MB."""


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
    path, folder = Path(path), None if output is None else Path(output)
    started = time.perf_counter()
    target = _check_request(runs, threshold)
    names = {run.id: f"mask_{run.id}.nii.gz" for run in runs} if folder and len(runs) > 1 else {}
    replaced = check_output(folder, [MASK, *names.values(), REPORT]) if folder else ()
    segmenters = [Segmenter(run) for run in runs]

    scan = load_scan(path)
    scale = scale or detect_scale(scan.voxels, path)
    sha256 = sha256_file(path)
    warnings = [*check_chest(scan.voxels, scale, path), *_spacing_warning(scan)]
    warnings += [warning for run in runs for warning in _training_warning(run, sha256)]
    votes = np.zeros(scan.voxels.shape, np.uint8)
    packed, models = {}, []
    advance = _counter(progress, cancel, len(votes) * len(runs))
    for run in runs:
        # popped, since a session keeps the memory of its largest batch
        mask = _segment(scan, scale, segmenters.pop(0), threshold, advance, cancel)
        votes += mask
        packed[run.id] = np.packbits(mask)
        models.append(report_model(run, report_mask(mask, scan, names.get(run.id))))
        del mask
    tied = sum(int(np.count_nonzero(plane == len(runs) / 2)) for plane in votes)
    mask = np.greater(votes, len(runs) // 2, out=votes.view(bool)).view(np.uint8)

    report = Report(
        notice=NOTICE,
        created=now(),
        seconds=round(time.perf_counter() - started, 3),
        target=target,
        threshold=threshold,
        vote="more than half of the models; a tie is left out" if len(runs) > 1 else "one model, no vote",
        tied_voxels=tied,
        scan=report_scan(scan, scale, sha256),
        mask=report_mask(mask, scan, MASK if folder else None),
        models=tuple(models),
        warnings=tuple(warnings),
        versions=versions(),
        files={},
    )
    prediction = Prediction(scan, mask, report, folder, replaced, packed)
    return _written(prediction, folder, names, cancel) if folder else prediction


def _check_request(runs: Sequence[Run], threshold: float) -> Target:
    """The models' common target."""
    if not 0 < threshold < 1:
        raise SettingError("threshold", f"{threshold:g}", "above 0 and below 1")
    ids = [run.id for run in runs]
    if not 1 <= len(ids) <= MAX_MODELS:
        raise SettingError("runs", f"{len(ids)} of them", f"1 to {MAX_MODELS}")
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise SettingError("runs", f"{twice[0]} more than once", "each run once: it has one vote")
    targets = {run.config.target: run.id for run in runs}
    if len(targets) > 1:
        found = " and ".join(f"{target} ({id})" for target, id in sorted(targets.items()))
        raise SettingError("runs", f"models of different targets: {found}", "models of one target")
    return next(iter(targets))


def _segment(
    scan: Volume,
    scale: Scale,
    segmenter: Segmenter,
    threshold: float,
    advance: Callable[[int], None],
    cancel: Cancel | None,
) -> np.ndarray:
    """(Z, Y, X) uint8 0/1: the mask of one model, a few planes at a time."""
    prepare = segmenter.prepare
    grid = Grid(scan.voxels.shape[1:], scan.spacing[1:], prepare.size, prepare.resize)
    mask = np.empty(scan.voxels.shape, np.uint8)
    for start in range(0, len(mask), _PLANES):
        part = slice(start, start + _PLANES)
        images = to_images(to_uint8(scan.voxels[part], scale, prepare.window), grid)
        probabilities = to_native(segmenter.probabilities(images, cancel=cancel), grid)
        np.greater_equal(probabilities, threshold, out=mask[part].view(bool))
        advance(len(images))
    return mask


def _counter(progress: Progress | None, cancel: Cancel | None, total: int) -> Callable[[int], None]:
    """A function to call with the number of slices just done; it tells `progress`, and raises if `cancel` is set."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        stop_if(cancel)
        if progress is not None:
            progress(done, total)

    advance(0)
    return advance


def _spacing_warning(scan: Volume) -> list[str]:
    if voxel_ml(scan) is not None:
        return []
    return ["spacing of 1 mm in all three directions is taken as unknown: no mL"]


def _training_warning(run: Run, sha256: str) -> list[str]:
    """A warning where the model has learned from this very scan: it says little about the model then."""
    try:
        split = run.split
        cases = {case.id for case in load_dataset(run.config.dataset).cases if case.sha256.get("scan") == sha256}
    except CovsegError:  # a shipped model, or its dataset was deleted
        return []
    known = [name for name in ("train", "validation") if cases & set(getattr(split, name))]
    return [f"{run.id} was trained with this scan: no measure of how it does on new ones"] if known else []


def _written(prediction: Prediction, folder: Path, names: dict[str, str], cancel: Cancel | None) -> Prediction:
    """Write masks and report into `folder`, and return the prediction with the report as written."""
    geometry = prediction.scan.geometry
    with whole_folder(folder) as staging:
        save_mask(prediction.mask, geometry, staging / MASK)
        for run, name in names.items():
            save_mask(prediction.mask_of(run), geometry, staging / name)
        files = {name: sha256_file(staging / name) for name in (MASK, *names.values())}
        report = dataclasses.replace(prediction.report, files=files)
        write_json(staging / REPORT, report)
        stop_if(cancel)
    return dataclasses.replace(prediction, report=report)
