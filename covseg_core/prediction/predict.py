"""The mask of one scan by one or several models, on the scan's own grid, with a report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence

import numpy as np

from covseg_core.config import Target
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import SettingError
from covseg_core.prediction.decide import Prediction, decide
from covseg_core.prediction.inference import Cancel, Segmenter
from covseg_core.prediction.output.files import check_files
from covseg_core.prediction.output.report import voxel_ml
from covseg_core.prediction.passport import make_passport
from covseg_core.prediction.probabilities import Advance, Probabilities, answered, counter, segment
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.prediction.spool import Keeper
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.runs.operating_point import Threshold, Thresholds, thresholds_of

MAX_MODELS = 100
DEFAULTS = Thresholds()


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

    The folder gets the files that docs/reference/prediction.md lists: all of them, or on any error none. Files of an
    earlier prediction in it are replaced and other files stay. A file that was edited since, or is not covseg's, is
    never overwritten: that is an error.

    Parameters
    ----------
    path : a scan that `data.opening.open_scan` reads: NIfTI, DICOM as folder, file or zip, or a picture
    runs : the models, all of one target; each has its own way to prepare slices
    threshold : probability from which a voxel is in a mask, above 0 and below 1; None for thresholds and smallest sizes
        of the runs' operating points (`operating_point.thresholds_of`)
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
    given = DEFAULTS if threshold is None else Thresholds(threshold, minimum_mm3)
    target = _check_request([(run.id, run.config.target) for run in runs], given)
    if lungs:
        _check_lungs(target, lungs.config.target, lungs.id)
    ids = [run.id for run in runs]
    check_files(ids, output, lungs is not None)
    asked = [*runs, lungs] if lungs else list(runs)
    segmenters = [Segmenter(run) for run in asked]
    scan = read_scan(path, scale, series)
    known = voxel_ml(scan.volume) is not None
    thresholds = thresholds_of(runs, known) if threshold is None else given
    _check_size(scan, thresholds)
    files = check_files(ids, output, lungs is not None, scan.kind)
    advance = counter(progress, cancel, len(scan.volume.voxels) * len(asked))
    with Keeper() as keeper:
        answers = list(_ask(scan, asked, segmenters, keeper, advance, cancel))
        lung = answers.pop() if lungs else None
        return decide(scan, target, answers, lung, thresholds, keep_beyond, started, files, cancel)


def predict_at(
    scan: Scan,
    answers: Sequence[Probabilities],
    thresholds: Thresholds = DEFAULTS,
    output: str | os.PathLike[str] | None = None,
    cancel: Cancel | None = None,
    lungs: Probabilities | None = None,
    keep_beyond: bool = False,
    sides: np.ndarray | None = None,
) -> Prediction:
    """The prediction that `predict_scan` makes, from probabilities that are there already.

    Parameters
    ----------
    scan : the one that the models were asked about
    answers : of models of one target
    thresholds : threshold and smallest size, of all models or of each in their order
    output, keep_beyond : as for `predict_scan`
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
    target = _check_request([(answer.model.run, answer.target) for answer in answers], thresholds)
    if lungs:
        _check_lungs(target, lungs.target, lungs.model.run)
    _check_size(scan, thresholds)
    files = check_files([answer.model.run for answer in answers], output, lungs is not None, scan.kind)
    return decide(scan, target, answers, lungs, thresholds, keep_beyond, started, files, cancel, sides)


def _check_request(models: Sequence[tuple[str, Target]], thresholds: Thresholds) -> Target:
    """The common target of models, given by id and target."""
    for at in (Threshold(thresholds.threshold, thresholds.minimum_mm3), *thresholds.each):
        if not 0 < at.threshold < 1:
            raise SettingError("threshold", f"{at.threshold:g}", "above 0 and below 1")
        if not (math.isfinite(at.minimum_mm3) and at.minimum_mm3 >= 0):
            raise SettingError("smallest size", f"{at.minimum_mm3:g} mm3", "0 or more")
    ids = [id for id, _ in models]
    if len(thresholds.each) not in (0, len(ids)):
        raise SettingError("thresholds", f"{len(thresholds.each)} of them", f"one for each of {len(ids)} models")
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


def _check_size(scan: Scan, thresholds: Thresholds) -> None:
    largest = max([thresholds.minimum_mm3, *(at.minimum_mm3 for at in thresholds.each)])
    if largest and voxel_ml(scan.volume) is None:
        raise SettingError("smallest size", f"{largest:g} mm3, but the scan's voxel size is not known", "0")


def _ask(
    scan: Scan,
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
