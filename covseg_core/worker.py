"""The process that trains one run: `python -m covseg_core.worker RUN [DESCRIPTOR | --ticket TICKET]`.

On this machine it is handed the lock of its run, and waits for its turn without having loaded Keras. As a job of SLURM
it shows the ticket by which it was sent, and begins at once. It trains, exports, evaluates, and says in `status.json`
how it ended. It belongs to no browser and no dashboard.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from covseg_core.errors import CovsegError, PlaceError
from covseg_core.places import LOCAL, Slurm, place_named, read_placed, slurm
from covseg_core.places.devices import slots, take_free
from covseg_core.runs import Run, State, Status, host, turns
from covseg_core.runs.liveness import WorkerLock, this_process
from covseg_core.training.heartbeat import Heart, StopRequested

TURN_POLL = 0.5
"""Seconds between two looks at the queue; for each run that is ahead."""
SLOWEST_POLL = 5.0
"""Seconds between them at most."""
LOCK_PATIENCE = 120.0
"""Seconds that a job waits for the lock of its run: who sends it holds it until it is sent, and a file server lets the
lock of a node that is gone go after a minute and a half."""


class Told(threading.Event):
    """Set by a signal that asks this process to end.

    SLURM says early that the time of a job will be up. A job that has not completed an epoch until then goes on as long
    as it may: the next one would not come further.
    """

    def __init__(self, job: bool, progressed: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self.job, self.progressed = job, progressed
        self.time_is_up = False

    def is_set(self) -> bool:
        return super().is_set() or (self.time_is_up and self.progressed())

    def listen(self) -> None:
        """From now on; SLURM sends SIGUSR1 before the time of a job is up, and SIGTERM for anything else."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.set())
        if self.job:
            signal.signal(signal.SIGUSR1, self._time_is_up)

    def _time_is_up(self, *_: object) -> None:
        self.time_is_up = True


def main() -> int:
    """Entry point of the process; its exit code is 0 if the run finished, was stopped, or goes on in another job."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("lock", type=int, nargs="?")
    parser.add_argument("--ticket", default="")
    given = parser.parse_args()
    run = Run(given.run.absolute())
    told = Told(job=bool(given.ticket))
    told.listen()
    alone = WorkerLock(run.folder)
    if not (given.lock is not None and alone.adopt(given.lock)) and not alone.take(LOCK_PATIENCE if told.job else 0):
        print(f"{run.id}: another worker has this run")
        return 1
    if told.job:
        written, placed = run.written_status, run.placed
        print(f"job {os.environ.get('SLURM_JOB_ID')} of {placed.place} on {_node()}", flush=True)
        if placed.ticket != given.ticket or written.state not in ("queued", "running"):
            print(f"{run.id}: {written.state}, job {placed.job or 'none'}: this job is no longer wanted")
            return 0
    with Heart(run, signed(run.written_status)) as heart:
        began_after = heart.status.epoch
        told.progressed = lambda: heart.status.epoch > began_after
        state, reason = work(run, heart, told)
        if told.job and told.is_set() and state == "stopped" and not run.stop_file.exists():
            state, reason = on_with_it(run, heart, told)
        else:
            run.stop_file.unlink(missing_ok=True)
            heart.write(state=state, reason=reason, step=0)
    alone.release()
    print(f"{run.id}: {state}{': ' if reason else ''}{reason}", flush=True)
    return 0 if state in ("finished", "stopped", "queued") else 1


def on_with_it(run: Run, heart: Heart, told: Told) -> tuple[State, str]:
    """A job that had to end, but whose run is to go on: written, and sent again if SLURM does not do that by itself."""
    if not told.time_is_up:
        # pre-empted, its node drained, or cancelled: in the first cases SLURM queues it again, else it is lost
        heart.write(state="queued", reason="SLURM told it to end", step=0, process="")
        return "queued", "SLURM told it to end"
    if not told.progressed():
        reason = "the time of its job is up before one epoch was done: give its place more `time`, then resume"
        heart.write(state="stopped", reason=reason, step=0)
        return "stopped", reason
    reason = "the time of its job was up, sent again"
    heart.write(state="queued", reason=reason, step=0, process="", queued=time.time())
    try:
        send_again(run)
    except CovsegError as error:
        reason = f"the time of its job was up, and it cannot be sent again from {_node()}: {error}"
        heart.write(state="stopped", reason=reason)
        return "stopped", reason
    return "queued", reason


def send_again(run: Run) -> None:
    """By a new job, which may begin at once; else by the same, which SLURM holds back for two minutes.

    Raises
    ------
    CovsegError : neither can be done from this node
    """
    placed = read_placed(run.folder)
    place = place_named(placed.place)
    if not isinstance(place, Slurm):
        raise PlaceError(placed.place, "is no longer a place of SLURM")
    try:
        slurm.submit(place, run.folder, host())
    except PlaceError as error:
        try:
            slurm.requeue(placed)
        except PlaceError:
            raise error from None


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME", host())


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


def turn(run: Run, heart: Heart, stop: threading.Event) -> contextlib.AbstractContextManager[object]:
    """Wait until it is this run's turn and a device is free; its lock ends with the process. A job has its device."""
    if run.placed.kind != LOCAL:
        return contextlib.nullcontext()
    devices = slots()
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
        if not ahead and (taken := take_free(devices)):
            slot, lock = taken
            slot.choose()
            return lock
        heart.note(reason=f"waiting for {ahead} ahead" if ahead else "waiting for the device")
        time.sleep(TURN_POLL)


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
        # what was learned until now can be compared and used; a job that goes on elsewhere has no time for it
        goes_on = isinstance(stop, Told) and stop.job and stop.is_set() and not run.stop_file.exists()
        if run.best_weights.exists() and not goes_on:
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
