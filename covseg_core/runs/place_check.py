"""Whether a place will train runs, found out by a job that looks around on a node: before a night is lost, not after.

On the node this module is run as a program and writes what it finds into the folder of runs, which has to be shared.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from covseg_core import paths
from covseg_core.errors import CovsegError, PlaceError
from covseg_core.files import read_json, write_json
from covseg_core.places import Slurm, place_named, slurm
from covseg_core.places.devices import slots
from covseg_core.runs.liveness import LOCK, WorkerLock, host, lock_held
from covseg_core.version import __version__

PATIENCE = 120.0
"""Seconds for which the job is waited for."""
_POLL = 0.5
_CLOCKS = 5.0
"""Seconds by which clocks may differ without being spoken of."""
_LATE = 70.0
"""Seconds after which a network file system shows a new file at the latest."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    wrong: bool = False
    """Whether runs would fail, or be lost, by it."""


@dataclass(frozen=True)
class Answer:
    """What a node says of itself."""

    host: str
    version: str
    python: str
    backend: str
    installed: bool
    """Whether the backend is."""
    data: bool
    """Whether the folder of data is there."""
    lock_seen: bool | None
    """Whether it sees the lock that another machine holds; None if it cannot tell."""
    clock: float
    """Ahead of the file system's [s]."""
    sends: bool
    """Whether a run can be sent again from there, when the time of its job is up."""
    gpus: str


def check(name: str, patience: float = PATIENCE) -> list[Finding]:
    """Look at a place; on SLURM by a small job.

    Raises
    ------
    PlaceError : there is no such place, or its settings cannot be used
    """
    place = place_named(name)
    if not isinstance(place, Slurm):
        devices = [slot.device or "what is visible" for slot in slots()]
        trainings = "1 training" if len(devices) == 1 else f"{len(devices)} trainings"
        return [Finding("devices", f"{trainings} at a time: {', '.join(devices)}")]
    try:
        slurm.ready(place)
    except PlaceError as error:
        return [Finding("partition", f"{error}", wrong=True)]
    asked = Finding("partition", f"{place.partition or 'the usual one'} takes jobs")
    folder = paths.checkpoints_root() / ".places" / f"covseg-check-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        return [asked, *_by_a_job(place, folder, patience)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _by_a_job(place: Slurm, folder: Path, patience: float) -> list[Finding]:
    lock = WorkerLock(folder)
    lock.take()
    try:
        output = folder / f"{folder.name}.out"
        number = slurm.probe(place, ["-m", "covseg_core.runs.place_check", str(folder)], output)
        answer = _wait(number, folder, output, patience)
    finally:
        lock.release()
    return [answer] if isinstance(answer, Finding) else _judge(answer, _clock(folder))


def _wait(number: str, folder: Path, output: Path, patience: float) -> Answer | Finding:
    """The node's answer, or why there is none."""
    end, gone_since = time.monotonic() + patience, None
    while True:
        try:
            return read_json(folder / "answer.json", Answer)
        except CovsegError:
            pass
        job = slurm.job_named(output.stem)
        now = time.monotonic()
        if job is None:
            gone_since = now if gone_since is None else gone_since
            if output.exists() and output.stat().st_size:
                said = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
                return Finding("node", f"job {number} could not run covseg: {said[-1].strip()[:300]}", wrong=True)
            if now - gone_since >= min(_LATE, patience / 2):
                text = f"job {number} has ended, and wrote nothing to {folder.parent}: is this folder shared?"
                return Finding("folder", text, wrong=True)
        elif now >= end:
            slurm.cancel_named(output.stem)
            where = f"runs on {job.node} without an answer" if job.node else f"has not begun: {job.reason}"
            return Finding("node", f"within {patience:.0f} s job {number} {where}", wrong=bool(job.node))
        time.sleep(_POLL)


def _judge(answer: Answer, clock: float) -> list[Finding]:
    off = answer.clock - clock
    found = [
        Finding("node", f"{answer.host} ran a job, with Python {answer.python} and {answer.gpus or 'no GPU'}"),
        Finding("folder", f"{paths.checkpoints_root()} is shared"),
    ]
    if answer.version == __version__:
        found.append(Finding("covseg", f"{answer.version}, as here"))
    else:
        found.append(Finding("covseg", f"{answer.version} there and {__version__} here", wrong=True))
    if answer.installed:
        found.append(Finding("backend", answer.backend))
    else:
        found.append(Finding("backend", f"{answer.backend} is not installed in {answer.python}", wrong=True))
    if not answer.data:
        found.append(Finding("data", f"{paths.data_root()} is not there on the node", wrong=True))
    else:
        found.append(Finding("data", f"{paths.data_root()} is shared"))
    if answer.lock_seen:
        found.append(Finding("locks", "are seen by the other machine"))
    else:
        found.append(Finding("locks", "are not seen by the other machine: SLURM alone tells whether a run lives"))
    if abs(off) > _CLOCKS:
        text = f"differs by {off:.0f} s: no run is lost by it, but the times in lists are wrong"
        found.append(Finding("clock", text))
    else:
        found.append(Finding("clock", "agrees"))
    if answer.sends:
        found.append(Finding("time limit", "a run goes on in another job when its time is up"))
    else:
        text = "neither sbatch nor scontrol on the node: a run stops when its time is up, and has to be resumed by hand"
        found.append(Finding("time limit", text))
    return found


def _clock(folder: Path) -> float:
    """This machine's clock, ahead of the file system's [s]."""
    probe = folder / f".clock-{os.getpid()}"
    before = time.time()
    probe.write_bytes(b"")
    return (before + time.time()) / 2 - probe.stat().st_mtime


def main() -> None:
    """On the node."""
    folder = Path(sys.argv[1])
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    answer = Answer(
        host=os.environ.get("SLURMD_NODENAME", host()),
        version=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        backend=backend,
        installed=importlib.util.find_spec(backend) is not None,
        data=paths.data_root().is_dir(),
        lock_seen=lock_held(folder) if (folder / LOCK).exists() else None,
        clock=_clock(folder),
        sends=any(shutil.which(name) for name in ("sbatch", "scontrol")),
        gpus=", ".join(f"GPU {number}" for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number),
    )
    write_json(folder / "answer.json", answer)


if __name__ == "__main__":
    main()
