"""A run is a folder: `checkpoints/<run id>/`, readable by anybody at any time, written by its worker alone.

    config.json  split.json  standardise.json   how to repeat it
    labels.json                                 name, note and tags, by people
    pace.json                                   batch and learning rate, which a device may have changed
    status.json  stop                           where it stands; a request to stop
    turn.json                                   its place in the queue, where somebody has changed it
    place.json                                  where its process runs: kind, host, job
    history.csv                                 a row an epoch
    best.weights.h5  last/epoch_NNNN/           best weights; weights and optimizer, for resume
    previews/epoch_NNNN.npy                     predictions of a few fixed validation slices
    model.onnx  test_predictions.npy  evaluation.json  worker.log
    validation_predictions.npy  operating_point.json    threshold and smallest size, picked on validation

    .worker.lock                                held by its worker: whether it lives

No file says `lost` or `stopping`: both are concluded when the status is read, so that they are right after a power cut.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from covseg_core import paths
from covseg_core.config import RunConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError, PlaceError, RunError
from covseg_core.files import cached_json, read_json, safe_name, write_bytes, write_json
from covseg_core.places import LOCAL, Placed, read_placed, slurm
from covseg_core.runs import liveness
from covseg_core.runs.liveness import WorkerLock, host, this_process

State = Literal["queued", "running", "stopping", "stopped", "finished", "failed", "lost"]

ACTIVE: tuple[State, ...] = ("queued", "running", "stopping")
RESUMABLE: tuple[State, ...] = ("stopped", "failed", "lost")
ENDED: tuple[State, ...] = (*RESUMABLE, "finished")

_PATIENCE = 5.0
"""Seconds that a worker may take to end after its last word."""


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    state: State
    queued: float = 0.0
    """Unix time at which it last joined the queue [s]: the queue's order."""
    reason: str = ""
    """Why it stopped, failed or was lost; what it is doing besides training."""
    host: str = ""
    pid: int = 0
    """Of the worker; 0 before it has come."""
    process: str = ""
    """What tells the worker from any other process, before it is started the one that made the run: process numbers
    are used again. `boot/number/start`, see `liveness`."""
    heartbeat: float = 0.0
    """Unix time [s]. For people, and since it changes: nothing is concluded from how long ago it was."""
    device: str = ""
    chosen: str = ""
    """Batch and learning rate, where the device made them differ from the settings."""
    epoch: int = 0
    """Epochs completed."""
    epochs: int = 0
    step: int = 0
    """Batches done in the current epoch."""
    steps: int = 0
    seconds: float = 0.0
    """Time spent training, over all sessions [s]."""

    @property
    def trains_on(self) -> str:
        """The device, and what was chosen for it."""
        return ", ".join(filter(None, [self.device, self.chosen]))


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of the training slices, in grey values 0..255."""

    mean: float
    std: float


@dataclass(frozen=True)
class Run:
    """A run's folder, and what stands in it."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def config(self) -> RunConfig:
        return cached_json(self.folder / "config.json", RunConfig)

    @property
    def split(self) -> Split:
        return cached_json(self.folder / "split.json", Split)

    @property
    def standardisation(self) -> Standardisation:
        return cached_json(self.folder / "standardise.json", Standardisation)

    @property
    def status(self) -> Status:
        """The written status, or what follows: `stopping` if a stop was asked, `lost` if its process is gone."""
        status = self.written_status
        if status.state in ("queued", "running"):
            status = self._now(status)
            if status.state != "lost" and self.stop_file.exists():
                return dataclasses.replace(status, state="stopping")
        return status

    def _now(self, status: Status) -> Status:
        """What a status that says queued or running comes to."""
        if self.placed.kind == LOCAL:
            lives = liveness.lives(self.folder, status.host, status.process, status.heartbeat)
            return status if lives else _lost(status)
        if liveness.lock_held(self.folder) or liveness.process_lives(status.process):
            return status
        return self.by_queue(status)

    def by_queue(self, status: Status) -> Status:
        """The same of a run whose lock nobody holds and whose job SLURM has or has not; unknown is not lost."""
        placed = self.placed
        try:
            job = slurm.listed(self.folder, placed)
        except PlaceError as error:
            return dataclasses.replace(status, reason=str(error))
        if job is None:
            # the queue's answer may be a moment older than the job, and a network file system shows the last word late;
            # without a ticket another machine may be about to send it
            if (placed.ticket or status.process) and not liveness.old(self.folder):
                return status
            return _lost(status, self._last_word(placed))
        if job.pending:  # also one that was running, and that SLURM has put back
            return dataclasses.replace(status, state="queued", reason=f"waits in SLURM's queue: {job.reason}")
        return status

    def _last_word(self, placed: Placed) -> str:
        """Why SLURM no longer has a job; what its log ends with helps most where covseg has not even started."""
        if not placed.ticket:
            return "it was not sent to SLURM"
        reason = f"SLURM no longer has its job {placed.job}".rstrip()
        try:
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return f"{reason}, and no node has written to {self.folder}: it was cancelled, or this folder is not shared"
        written = self.written_status
        if written.pid or written.epoch:  # then only what SLURM says of this job is about its end
            lines = [line for line in lines if line.startswith("slurmstepd") and placed.job in line]
        return f"{reason}, whose log ends with: {lines[-1][:200]}" if lines else reason

    @property
    def placed(self) -> Placed:
        """Where its process runs."""
        return read_placed(self.folder)

    @property
    def written_status(self) -> Status:
        """What `status.json` says, whether or not its worker lives."""
        return read_json(self.folder / "status.json", Status)

    def write_status(self, status: Status) -> None:
        """For the worker, and for who puts it in the queue."""
        write_json(self.folder / "status.json", status)

    def history(self) -> list[dict[str, float]]:
        """One dict an epoch: `epoch` (from 1), losses, metrics, `learning_rate`, `seconds`, `total_seconds`."""
        try:
            text = self.history_csv.read_text()
        except FileNotFoundError:
            return []
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write all rows; floats keep every digit, since a resumed run computes with them."""
        text = io.StringIO(newline="")
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _digits(value) for name, value in row.items()} for row in rows)
        write_bytes(self.history_csv, text.getvalue().encode())

    @property
    def history_csv(self) -> Path:
        return self.folder / "history.csv"

    @property
    def stop_file(self) -> Path:
        return self.folder / "stop"

    @property
    def best_weights(self) -> Path:
        return self.folder / "best.weights.h5"

    @property
    def last(self) -> Path:
        return self.folder / "last"

    @property
    def previews(self) -> Path:
        return self.folder / "previews"

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def test_predictions(self) -> Path:
        return self.folder / "test_predictions.npy"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"


def create_run(config: RunConfig, split: Split) -> Run:
    """Make the folder of a new run, whole or not at all, with status `queued`.

    Raises
    ------
    RunError : a run of this id exists
    """
    root = paths.checkpoints_root()
    folder = root / safe_name(config.id, "run")
    if folder.exists():
        raise RunError(config.id, "a run of this name exists")
    staging = root / f".new-{uuid.uuid4().hex[:8]}"
    staging.mkdir(parents=True)
    try:
        write_json(staging / "config.json", config)
        write_json(staging / "split.json", split)
        now = time.time()
        write_json(
            staging / "status.json",
            Status(
                "queued", queued=now, heartbeat=now, epochs=config.train.epochs, host=host(), process=this_process()
            ),
        )
        try:
            staging.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise RunError(config.id, "a run of this name exists") from None
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Run(folder)


def open_run(id: str) -> Run:
    """Find a run by its id, among the runs and the shipped models.

    Raises
    ------
    RunError : there is none
    """
    name = safe_name(id, "run")
    for folder in (paths.checkpoints_root() / name, paths.pretrained_root() / name):
        if (folder / "config.json").is_file():
            return Run(folder)
    raise RunError(id, "no such run", "one of `covseg runs list`")


def list_runs(pretrained: bool = False) -> list[Run]:
    """All runs, by id; with `pretrained` only the shipped models."""
    root = paths.pretrained_root() if pretrained else paths.checkpoints_root()
    if not root.is_dir():
        return []
    return [
        Run(folder)
        for folder in sorted(root.iterdir())
        if not folder.name.startswith(".") and (folder / "config.json").is_file()
    ]


def open_runs(id: str) -> list[Run]:
    """The run of this id, or all runs of the experiment of this id, in the order in which they were queued.

    Raises
    ------
    RunError : there is neither
    """
    try:
        return [open_run(id)]
    except RunError:
        found = [run for run in list_runs() if run.id.startswith(f"{id}-") and _experiment(run) == id]
        if not found:
            raise
        return sorted(found, key=lambda run: run.status.queued)


def delete_run(run: Run) -> None:
    """Remove a run's folder; raises as `delete_runs`."""
    delete_runs([run])


def delete_runs(runs: Sequence[Run]) -> None:
    """Remove the folders of runs, such as all of an experiment: all of them or none.

    Raises
    ------
    RunError : one is queued or running, or its worker lives
    """
    doomed = []
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(reserved(run, ENDED, "a run that has ended: stop it first"))
        for run in runs:
            # renamed first: a half-removed folder must not look like a run
            doomed.append(run.folder.rename(run.folder.with_name(f".deleted-{uuid.uuid4().hex[:8]}")))
    for folder in doomed:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reserved(run: Run, states: Sequence[State], expected: str) -> Iterator[tuple[Status, WorkerLock]]:
    """Status of a run in one of these states, and the lock of its worker, so that nobody else can start one.

    Where only looking on can tell that a worker on another computer has died, this looks on that long.

    Raises
    ------
    RunError : it is in another state, its worker lives, or it is deleted meanwhile
    """
    _out_of_sight(run)
    status = run.status
    if status.state not in states:
        raise RunError(run.id, f"is {status.state}", expected)
    lock = WorkerLock(run.folder)
    try:
        if not lock.take(_PATIENCE):
            raise RunError(run.id, "its worker still runs", expected)
    except FileNotFoundError:
        raise RunError(run.id, "was deleted in the meantime", expected) from None
    try:
        # another may have been faster; who would be in the queue has no worker, since the lock is ours
        status = run.written_status
        if status.state in ACTIVE:
            status = _lost(status) if run.placed.kind == LOCAL else run.by_queue(status)
        if status.state not in states:
            raise RunError(run.id, f"is {status.state}", expected)
        yield status, lock
    finally:
        if lock.fd >= 0:
            lock.release()


def _out_of_sight(run: Run) -> None:
    """Wait for a sign of life while there is none but a status that another computer wrote."""
    if run.placed.kind != LOCAL:
        return
    first, end = run.status, time.monotonic() + liveness.SILENT_AFTER + 1
    if first.host == host() or liveness.lock_held(run.folder) or liveness.process_lives(first.process):
        return
    while (now := run.status).state in ACTIVE and now.heartbeat == first.heartbeat and time.monotonic() < end:
        time.sleep(0.2)


def _lost(status: Status, reason: str = "its process ended without a word") -> Status:
    return dataclasses.replace(status, state="lost", reason=reason)


def _experiment(run: Run) -> str:
    try:
        return run.config.experiment
    except CovsegError:
        return ""


def _digits(value: float) -> str:
    """Shortest text that reads back as the same float."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def read_status(run: Run) -> Status | None:
    """The status, or None while the folder is being deleted or is not readable: for lists that must not break."""
    try:
        return run.status
    except CovsegError:
        return None
