"""The mask of one scan by one or several models, on the scan's own grid, with a report."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Literal

from covseg_core.config import Target
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import SettingError
from covseg_core.prediction.ask import Answers, ask, check_lungs, check_precision
from covseg_core.prediction.combination import Combine, check_combine
from covseg_core.prediction.decide import Prediction, decide
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.inference import Cancel, check_model
from covseg_core.prediction.output.files import check_files
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.runs.lung_model import shipped_lungs
from covseg_core.runs.operating_point import DEFAULT, Thresholds, thresholds_of

MAX_MODELS = 100
DEFAULTS = Thresholds()


def predict(
    scan: str | os.PathLike[str],
    runs: Run | Sequence[Run],
    output: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    scale: Scale | None = None,
    series: str | None = None,
    minimum_mm3: float | None = None,
    peak: float | None = None,
    lungs: Run | Literal["shipped"] | None = "shipped",
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    keep_beyond: bool = False,
    combine: Combine = "mean",
    mirror: bool = False,
    precision: Precision = "float32",
    name: str = "",
    keep_patient: bool = False,
) -> Prediction:
    """Predict the mask of a scan, and write it if an output folder is given.

    The folder gets the files that docs/reference/prediction.md lists: all of them, or on any error none. Files of an
    earlier prediction in it are replaced and other files stay. A file that was edited since, or is not covseg's, is
    never overwritten: that is an error.

    Parameters
    ----------
    scan : what `data.reading.opening` reads: NIfTI, DICOM as folder, file or zip, or a picture
    runs : a model, or several of one target to be combined; each has its own way to prepare slices
    threshold : probability from which a voxel is in a mask, above 0 and below 1
    scale : of the scan's values; None to detect it
    series : key of the DICOM series, where several can be used
    minimum_mm3 : connected parts of a mask that are smaller are left out, of the combined mask and of each model's.
        Without it, `threshold` and `peak`, the runs' operating points are used; with one of them, the others are 0 and
        0.5
    peak : connected parts of a model's mask whose probability nowhere reaches it are left out
    lungs : a lung model, beside models of infection, to report shares of each lung, and to leave out what lies beyond
        the chest; by default the one that comes with covseg
    progress : called with the slices done, over all models, and those there are; a mirror image is a slice of its own
    cancel : looked at before each batch
    keep_beyond : leave nothing out
    combine : how several models become one mask. `mean`: a voxel is in it where the mean of their probabilities, each
        stretched so that the model's threshold comes to 0.5, reaches 0.5. `vote`: where more than half of their masks
        have it
    mirror : ask the models about each slice mirrored left to right, too, and take the mean of both answers. Takes twice
        the time
    precision : to compute in. `bfloat16` takes half the time on processors that have it, for models that have passed
        the check of `covseg bfloat16`; a lung model that has not is asked in float32
    name : what the sheet and the report call the scan; nothing by default, since a name can tell who somebody is
    keep_patient : the DICOM SEG of a series names patient and study, as an archive may need it to file it

    Raises
    ------
    SettingError : no run, one twice, several targets, a threshold out of range, an output folder that cannot be used, a
        smallest size where the voxel size is not known, no such way to combine, no such precision here
    RunError : a run without `model.onnx`, or with one that cannot be used, or not in this precision
    ScanError : the scan is not readable, is a mask, or not of a chest; `SeriesChoice` if a series has to be chosen
    CovsegError : writing failed
    Cancelled : `cancel` was set; nothing is written
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if lungs == "shipped":
        lungs = None if any(run.config.target == "lung" for run in runs) else shipped_lungs()
    check_combine(combine)
    given = Thresholds(DEFAULT if threshold is None else threshold, minimum_mm3 or 0.0, peak or 0.0)
    _check_request([*map(_named, runs)], given, _named(lungs) if lungs else None)
    check_files([run.id for run in runs], output, lungs is not None)
    for run in [*runs, lungs] if lungs else runs:
        check_model(run)
    check_lungs(runs, lungs)
    check_precision(runs, precision)
    read = read_scan(scan, scale, series)
    own = threshold is None and minimum_mm3 is None and peak is None
    thresholds = thresholds_of(runs, read.voxel_ml is not None) if own else given
    _check_size(read, thresholds)
    check_files([run.id for run in runs], output, lungs is not None, read.kind)
    with Spool() as spool:
        answers = ask(read, runs, spool, lungs, progress=progress, cancel=cancel, mirror=mirror, precision=precision)
        return predict_at(
            read, answers, thresholds, output, keep_beyond, cancel, combine, name=name, keep_patient=keep_patient
        )


def predict_at(
    scan: Scan,
    answers: Answers,
    thresholds: Thresholds = DEFAULTS,
    output: str | os.PathLike[str] | None = None,
    keep_beyond: bool = False,
    cancel: Cancel | None = None,
    combine: Combine = "mean",
    name: str = "",
    keep_patient: bool = False,
) -> Prediction:
    """The prediction that `predict` makes, from answers that are there already.

    Parameters
    ----------
    scan : the one that the models were asked about
    answers : what `ask` returned
    thresholds : threshold, smallest size and peak, of all models or of each in their order
    output, keep_beyond, combine, name, keep_patient : as for `predict`

    Raises
    ------
    SettingError : as for `predict`; some of the models were asked about mirror images, and others not
    CovsegError : writing failed
    Cancelled : `cancel` was set; nothing is written
    """
    check_combine(combine)
    _check_mirror(answers)
    lungs = answers.lungs
    models = [(answer.model.run, answer.target) for answer in answers.models]
    _check_request(models, thresholds, (lungs.model.run, lungs.target) if lungs else None)
    _check_size(scan, thresholds)
    files = check_files(answers.runs, output, lungs is not None, scan.kind, name, keep_patient)
    return decide(scan, answers, thresholds, files, keep_beyond, cancel, combine)


def _check_request(
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


def _check_mirror(answers: Answers) -> None:
    """Make sure that one report can say of all models whether they were asked about mirror images."""
    asked = {answer.mirror: answer.model.run for answer in answers.models}
    if len(asked) > 1:
        raise SettingError("mirror", f"asked of {asked[True]}, not of {asked[False]}", "all models asked alike")


def _named(run: Run) -> tuple[str, Target]:
    return run.id, run.config.target


def _check_size(scan: Scan, thresholds: Thresholds) -> None:
    largest = max([thresholds.minimum_mm3, *(at.minimum_mm3 for at in thresholds.each)])
    if largest and scan.voxel_ml is None:
        raise SettingError("smallest size", f"{largest:g} mm3, but the scan's voxel size is not known", "0")
