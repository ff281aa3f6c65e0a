"""What campaigns on trainings share: tiny phantoms, tiny networks, and the end of what was started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.paths import data_root
from covseg_core.places import local
from covseg_core.runs import ACTIVE, Run, jobs, list_runs

DATASET = "phantoms"
TINY = {"size": 32, "filters": 2, "batch": 4}


def import_phantoms() -> None:
    """The dataset: six phantoms of 8 slices of 48 x 48."""
    folder = data_root() / "sample"
    write_sample(folder, scans=6, size=48, slices=8)
    import_dataset(DATASET, [folder], allow_empty=True)


@contextmanager
def no_worker_is_left() -> Iterator[None]:
    """Whatever happens, the workers of all runs end."""
    try:
        yield
    finally:
        for run in list_runs():
            run.stop_file.touch()
            status = run.status
            if status.state in ACTIVE and status.pid:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(status.pid, signal.SIGKILL)
        jobs.wait(list_runs())


def until(condition: Callable[[], object], seconds: float = 120, what: str = "") -> None:
    """Wait for it, or raise."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what or 'waited'} in vain for {seconds:.0f} s")
        time.sleep(0.02)


def worker_of(run: Run) -> subprocess.Popen[bytes]:
    """Of a run that this process has started: its process, also before it has said a word."""
    return next(worker for folder, worker in reversed(local.children) if folder == run.folder)
