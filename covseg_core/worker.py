"""The process that trains one run: `python -m covseg_core.worker <run folder> [descriptor of its lock]`.

It waits for its turn without having loaded Keras, trains, exports, evaluates, and says in `status.json` how it ended.
It belongs to no browser and no dashboard.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import filelock

from covseg_core import paths
from covseg_core.errors import CovsegError
from covseg_core.runs import Run, State, Status, host, turns
from covseg_core.runs.liveness import WorkerLock, this_process
from covseg_core.training.heartbeat import Heart, StopRequested

TURN_POLL = 0.5
"""Seconds between two looks at the queue; for each run that is ahead."""
SLOWEST_POLL = 5.0
"""Seconds between them at most."""


def main() -> int:
    """Entry point of the process; its exit code is 0 if the run finished or was stopped."""
    run = Run(Path(sys.argv[1]).absolute())
    alone = WorkerLock(run.folder)
    if not (len(sys.argv) > 2 and alone.adopt(int(sys.argv[2]))) and not alone.take():
        print(f"{run.id}: another worker has this run")
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Heart(run, signed(run.status)) as heart:
        state, reason = work(run, heart, stop)
        run.stop_file.unlink(missing_ok=True)
        heart.write(state=state, reason=reason, step=0)
    alone.release()
    print(f"{run.id}: {state}{': ' if reason else ''}{reason}", flush=True)
    return 0 if state in ("finished", "stopped") else 1


def signed(status: Status) -> Status:
    """The queued status, with the process that is behind it."""
    return dataclasses.replace(status, state="queued", reason="", host=host(), pid=os.getpid(), process=this_process())


def work(run: Run, heart: Heart, stop: threading.Event) -> tuple[State, str]:
    """Wait, train, export and evaluate; returns how it ended and why."""
    try:
        with turn(run, heart, stop):
            return train_and_evaluate(run, heart, stop)
    except StopRequested as request:
        return "stopped", str(request)
    except CovsegError as error:
        traceback.print_exc()
        return "failed", str(error)
    except Exception as error:
        # whatever it was, the user reads it on the page; the log has the traceback
        traceback.print_exc()
        return "failed", reason_of(error, run)


def reason_of(error: Exception, run: Run) -> str:
    """One line on what nobody expected; a full disk, which HDF5 reports at length, in plain words."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if os.strerror(errno.ENOSPC) in text:
        return f"no space left on the disk of {run.folder.parent}: free some, then resume"
    return text[:500]


def turn(run: Run, heart: Heart, stop: threading.Event) -> filelock.BaseFileLock:
    """Wait until it is this run's turn and the device is free; the lock ends with the process."""
    lock = device_lock()
    ahead, next_look = 0, 0.0
    while True:
        if stop.is_set() or run.stop_file.exists():
            raise StopRequested("stopped while it waited")
        if turns.read_turn(run).paused:
            next_look = 0.0
            heart.note(reason="paused")
            time.sleep(TURN_POLL)
            continue
        if time.monotonic() >= next_look:
            ahead = turns.ahead(run, heart.status.queued)
            # each look reads the status of every run: fifteen that wait must not slow down the one that trains
            next_look = time.monotonic() + min(TURN_POLL * ahead, SLOWEST_POLL)
        if not ahead:
            try:
                return lock.acquire().lock
            except filelock.Timeout:
                pass
        heart.note(reason=f"waiting for {ahead} ahead" if ahead else "waiting for the device")
        time.sleep(TURN_POLL)


def device_lock() -> filelock.BaseFileLock:
    """One training a device at a time, on this machine and for these runs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{host()}-{visible}")
    folder = paths.checkpoints_root() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / f"{name}.lock", blocking=False)


def train_and_evaluate(run: Run, heart: Heart, stop: threading.Event) -> tuple[State, str]:
    """The work itself, with the device reserved."""
    from covseg_core.prediction.case_lungs import find_lungs
    from covseg_core.training.train import load_unchanged, train

    def looking(done: int, total: int) -> None:
        heart.note(reason=f"looking for lungs: {done} of {total} scans")
        if stop.is_set() or run.stop_file.exists():
            raise StopRequested("stopped while it looked for lungs")

    try:
        if run.config.prepare.region == "lungs":
            heart.write(state="running", reason="looking for lungs")
            find_lungs(load_unchanged(run.config), run.config.prepare, progress=looking)
        train(run, heart, stop)
    except StopRequested as request:
        # what was learned until now can be compared and used
        if run.best_weights.exists():
            export(run)
        return "stopped", str(request)
    heart.write(reason="exporting")
    export(run)
    from covseg_core.evaluation.evaluate import evaluate_run

    heart.write(reason="evaluating")
    evaluate_run(run)
    return "finished", ""


def export(run: Run) -> None:
    """Write `model.onnx` from the best weights."""
    from covseg_core.training.export import export_run

    difference = export_run(run)
    print(f"model.onnx: differs from Keras by at most {difference:.2g}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
