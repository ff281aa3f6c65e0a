"""Predicting a cohort in a task, by processes apart from the dashboard's, one cohort at a time."""

from __future__ import annotations

import shutil
import threading
from functools import partial

from covseg_core.errors import CovsegError
from covseg_core.isolation import Limits, isolated, most_memory, size_of
from covseg_core.prediction.cohort.again import predict_uploads
from covseg_core.prediction.cohort.state import settings_of
from covseg_core.prediction.request import Request, asked_for
from dashboard.app_pages.predict.cohort_space import CohortSpace
from dashboard.app_pages.predict.step2_models import Chosen
from dashboard.services import tasks, uploads

_ONE_AT_A_TIME = threading.Lock()
"""Each uses all cores. Predictions of single scans do not wait for it: nobody would look at hours of waiting."""
_DAYS = 7
"""Of processor time for a cohort, without that of the processes that predict."""
LABEL = "Predicting the cohort"


def request_of(chosen: Chosen) -> Request:
    """What is asked for, at the models' operating points."""
    lungs = chosen.lungs.run if chosen.lungs else None
    return asked_for(chosen.runs, lungs, mirror=chosen.mirror, precision=chosen.precision)


def answered(space: CohortSpace, request: Request, pseudonyms: bool) -> bool:
    """Whether what is there was made with these settings."""
    return space.cohort is not None and space.cohort.settings == settings_of(request, pseudonyms)


def start(space: CohortSpace, request: Request, pseudonyms: bool) -> None:
    """Predict what was uploaded, or what of it is not predicted yet; what was made with other settings goes."""
    if not answered(space, request, pseudonyms):
        shutil.rmtree(space.output, ignore_errors=True)
    space.task = tasks.start("cohort", "Looking for scans", partial(_work, space, request, pseudonyms))


def _work(
    space: CohortSpace, request: Request, pseudonyms: bool, progress: tasks.TaskProgress, cancelled: threading.Event
) -> None:
    """In the thread of the task."""
    _wait(progress)
    try:
        uploads.check_room(size_of(space.uploads))  # for what zips become, and for the masks
        progress.phase("Looking for scans")
        begun = False

        def count(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                progress.phase(LABEL, "scans")
                begun = True
            space.touch()
            progress(done, total)

        isolated(
            predict_uploads, space.uploads, request, space.output, pseudonyms,
            named="cohort", limits=Limits(most_memory(), 86400.0 * _DAYS), progress=count, cancel=cancelled,
        )  # fmt: skip
    except CovsegError as error:
        inside = error.what.startswith(str(space.folder))
        raise type(error)("cohort" if inside else error.what, error.found, error.expected) from None
    finally:
        _ONE_AT_A_TIME.release()


def _wait(progress: tasks.TaskProgress) -> None:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        progress.phase("Waiting for another cohort to end")
        while not _ONE_AT_A_TIME.acquire(timeout=0.2):
            progress.check()
