"""The mask of one scan by one or several models, on the scan's own grid, with a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import SettingError
from covseg_core.prediction.ask import Answers, OpenModel, ask
from covseg_core.prediction.combination import Combine, check_combine
from covseg_core.prediction.decide import Prediction, decide
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.inference import Cancel
from covseg_core.prediction.output.files import check_files
from covseg_core.prediction.request import Request, asked_for, check_combined, check_request, check_size
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.runs.operating_point import Thresholds

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
    request = asked_for(
        runs, lungs, threshold, minimum_mm3, peak, scale, keep_beyond, combine, mirror, precision, keep_patient
    )
    ids = [run.id for run in request.runs]
    check_files(ids, output, request.lungs is not None)
    check_request(request)
    read = read_scan(scan, scale, series)
    check_files(ids, output, request.lungs is not None, read.kind)
    return predict_scan(read, request, output, name, progress, cancel)


def predict_scan(
    scan: Scan,
    request: Request,
    output: str | os.PathLike[str] | None = None,
    name: str = "",
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    open_model: OpenModel | None = None,
) -> Prediction:
    """The prediction that `predict` makes, of a scan that is read already; raises as it does, `open_model` as `ask`."""
    thresholds = request.thresholds(scan)
    with Spool() as spool:
        answers = ask(
            scan,
            request.runs,
            spool,
            request.lungs,
            progress=progress,
            cancel=cancel,
            mirror=request.mirror,
            precision=request.precision,
            open_model=open_model,
        )
        return predict_at(
            scan,
            answers,
            thresholds,
            output,
            request.keep_beyond,
            cancel,
            request.combine,
            name=name,
            keep_patient=request.keep_patient,
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
    check_combined(models, thresholds, (lungs.model.run, lungs.target) if lungs else None)
    check_size(scan, thresholds)
    files = check_files(answers.runs, output, lungs is not None, scan.kind, name, keep_patient)
    return decide(scan, answers, thresholds, files, keep_beyond, cancel, combine)


def _check_mirror(answers: Answers) -> None:
    """Make sure that one report can say of all models whether they were asked about mirror images."""
    asked = {answer.mirror: answer.model.run for answer in answers.models}
    if len(asked) > 1:
        raise SettingError("mirror", f"asked of {asked[True]}, not of {asked[False]}", "all models asked alike")
