"""One scan of a cohort, predicted in a process that keeps the models from scan to scan."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import cv2

from covseg_core.errors import CovsegError
from covseg_core.files import write_bytes
from covseg_core.prediction.cohort.figures import Figures, figures_of
from covseg_core.prediction.cohort.found import FoundScan
from covseg_core.prediction.cohort.state import FULL, no_room
from covseg_core.prediction.decide import Prediction
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.output.report_html import choose_slices
from covseg_core.prediction.output.report_slices import paint_slice
from covseg_core.prediction.predict import predict_scan
from covseg_core.prediction.request import Request
from covseg_core.prediction.scan import checked
from covseg_core.rendering import thumbnail
from covseg_core.runs import Run

KEPT_MODELS = 8
"""Models that a process keeps; of more, each is loaded again for each scan."""


def predict_one(scan: FoundScan, request: Request, folder: Path, picture: Path, cores: int) -> Figures:
    """Predict a scan and write its files and its thumbnail.

    Parameters
    ----------
    folder : for the files of the prediction; its name is what the sheet calls the scan
    picture : where the thumbnail goes
    cores : that this process may use

    Raises
    ------
    NoRoom : the disk is full
    CovsegError : as `predict.predict`
    """
    cv2.setNumThreads(cores)
    started = time.perf_counter()
    try:
        read = checked(scan.open(), scan.path, request.scale, started)
        open_model = functools.partial(_opened, cores=cores)
        prediction = predict_scan(read, request, folder, folder.name, open_model=open_model)
        write_bytes(picture, _thumbnail(prediction))
    except (CovsegError, OSError) as error:
        if (full := _full(error)) is not None:
            raise no_room(folder, full) from None
        if isinstance(error, OSError):
            raise CovsegError(folder, f"cannot be written ({error.strerror or error})") from None
        raise
    return figures_of(prediction)


@functools.lru_cache(maxsize=KEPT_MODELS)
def _opened(run: Run, precision: Precision, cores: int) -> Segmenter:
    """A batch on each core: they need not wait for each other at every layer."""
    return Segmenter(run, workers=cores, precision=precision, threads=1)


def _thumbnail(prediction: Prediction) -> bytes:
    """Of the slice with the largest mask, as on the sheet."""
    report, mask, sides = prediction.report, prediction.mask, prediction.lungs
    places = choose_slices(report.mask.positive_slices, mask, sides, number=1)
    return thumbnail(paint_slice(report, prediction.scan.voxels, mask, sides, places[len(places) // 2]))


def _full(error: BaseException | None) -> OSError | None:
    """What a full disk has said, if it is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None
