"""Asking models about a scan in a task, one prediction at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from covseg_core.errors import Cancelled, CovsegError
from covseg_core.prediction.ask import ask, unanswered
from covseg_core.prediction.scan import Scan
from covseg_core.runs import Run
from dashboard.app_pages.predict.workspace import Workspace
from dashboard.services import tasks, uploads

_ONE_AT_A_TIME = threading.Lock()
"""Several predictions at once would take as long, and the memory of all of them."""


def start(space: Workspace, chosen: Sequence[Run], lungs: Run | None, mirror: bool) -> None:
    """Ask the models that were not asked yet, in a task; then the workspace has the answers of exactly these."""
    label = f"Predicting with {len(chosen)} models" if len(chosen) > 1 else "Predicting"
    space.task = tasks.start("predict", label, partial(_work, space, list(chosen), lungs, mirror, label))


def _work(
    space: Workspace,
    chosen: list[Run],
    lungs: Run | None,
    mirror: bool,
    label: str,
    progress: tasks.TaskProgress,
    cancelled: threading.Event,
) -> None:
    """In the thread of the task."""
    _wait(progress)
    try:
        scan = space.scan
        if scan is None:
            raise CovsegError(space.name, "not read yet")
        progress.phase(label, "slices")
        waiting = unanswered(chosen, lungs, mirror, space.known)
        sizes = [question.run.config.prepare.size for question in waiting]
        uploads.check_room(sum(4 * len(scan.volume.voxels) * size**2 for size in sizes))

        def count(done: int, total: int) -> None:
            space.touch()
            progress(done, total)
            if done == total:
                progress.phase("Measuring")

        answers = ask(scan, chosen, space.spool, lungs, space.known, count, cancelled, mirror)
        problem = _seg_problem(scan)
        progress.check()  # another series may have been chosen meanwhile
        space.answers, space.seg_problem = answers, problem
    except Cancelled:
        progress.check()  # raises what tasks take for an end that was wanted
        raise
    finally:
        _ONE_AT_A_TIME.release()


def _wait(progress: tasks.TaskProgress) -> None:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        progress.phase("Waiting for another prediction to end")
        while not _ONE_AT_A_TIME.acquire(timeout=0.2):
            progress.check()


def _seg_problem(scan: Scan) -> str:
    """Why a DICOM series can have no DICOM SEG; asked here, since to import highdicom takes a second."""
    if scan.kind != "dicom":
        return ""
    from covseg_core.prediction.output.dicom_seg import seg_problem

    return seg_problem(scan)
