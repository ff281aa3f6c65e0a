"""SLURM: a run is a job that runs `python -m covseg_core.worker RUN`; nothing is pickled.

Only `sbatch`, `squeue` and `scancel` are needed on the machine that sends, and none of them on a node, but for runs
that take longer than their job: those are sent again from there, by `sbatch`, or else by `scontrol requeue`. `sacct` is
never asked. The package submitit was looked at and left: its executor sends pickled functions only, what writes a
script for a plain command is private there, and it asks `sacct` for the state.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from covseg_core import paths
from covseg_core.errors import PlaceError
from covseg_core.places.environment import own_environment
from covseg_core.places.place import FILE, SLURM, Placed, read_placed, write_placed
from covseg_core.places.settings import Slurm

_KEPT, _KEPT_SILENCE = 5.0, 30.0
"""Seconds for which an answer of the queue is used again, and the lack of one."""
_PATIENCE, _SHORT = 30.0, 5.0
"""Seconds that a command of SLURM may take, and the one by which pages are drawn."""
_PENDING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_OF_A_JOB = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
"""What SLURM sets inside a job beside `SLURM_...`, and what must not go along into another one."""
_answers: dict[int, tuple[float, dict[str, Job] | PlaceError]] = {}
"""Number of a user -> until when the queue's answer is used [s, monotonic], and the answer by ticket."""


@dataclass(frozen=True)
class Job:
    """A job as the queue lists it."""

    number: str
    state: str
    """SLURM's word, such as `PENDING`."""
    reason: str
    node: str

    @property
    def pending(self) -> bool:
        """Whether it has not begun, or waits to begin again."""
        return self.state in _PENDING


def ready(place: Slurm) -> None:
    """Whether the cluster would take a job of this place, asked without sending one.

    Raises
    ------
    PlaceError : there is no SLURM here, its controller does not answer, or it refuses, such as an unknown partition
    """
    _call([*_sbatch(place), "--test-only", "--wrap", "true"], place.name)


def submit(place: Slurm, folder: Path, host: str) -> None:
    """Send a run; `place.json` says where to.

    Parameters
    ----------
    host : name of this machine

    Raises
    ------
    PlaceError : it was not sent; `place.json` is as it was
    """
    before = read_placed(folder)
    ticket = f"covseg-{uuid.uuid4().hex[:12]}"
    placed = Placed(place.name, SLURM, host, ticket=ticket)
    command = [
        *_sbatch(place),
        "--parsable",
        f"--job-name={ticket}",
        f"--comment=covseg {folder.name}",
        f"--output={_no_pattern(folder / 'worker.log')}",
        "--open-mode=append",
        f"--signal=B:USR1@{place.grace}",
        "--requeue",
    ]
    write_placed(folder, placed)
    try:
        arguments = ["-m", "covseg_core.worker", str(folder), "--ticket", ticket]
        answer = _call(command, place.name, _script(place, arguments))
    except BaseException:
        write_placed(folder, before)
        raise
    write_placed(folder, dataclasses.replace(placed, job=_number(answer)))
    forget()


def listed(folder: Path, placed: Placed) -> Job | None:
    """A run's job, if the queue still has it.

    One call asks for all jobs of the user who sent it, and is used again for a few seconds.

    Raises
    ------
    PlaceError : the queue does not answer here and now, so that nothing is known
    """
    if not placed.ticket:
        return None
    try:
        user = (folder / FILE).stat().st_uid
    except OSError:
        user = os.getuid()
    until, answer = _answers.get(user, (0.0, {}))
    if time.monotonic() >= until:
        answer = _ask(user)
        kept = _KEPT_SILENCE if isinstance(answer, PlaceError) else _KEPT
        _answers[user] = time.monotonic() + kept, answer
    if isinstance(answer, PlaceError):
        raise answer
    return answer.get(placed.ticket)


def cancel(placed: Placed) -> None:
    """End the job of a run, if there still is one.

    Raises
    ------
    PlaceError : SLURM does not answer
    """
    if placed.ticket:
        cancel_named(placed.ticket)
        forget()


def forget() -> None:
    """Ask the queue anew at the next look."""
    _answers.clear()


def job_named(name: str) -> Job | None:
    """A job of this user, asked for anew.

    Raises
    ------
    PlaceError : the queue does not answer
    """
    answer = _ask(os.getuid())
    if isinstance(answer, PlaceError):
        raise answer
    return answer.get(name)


def cancel_named(name: str) -> None:
    """End a job of this user, if there still is one; raises `PlaceError`."""
    _call(["scancel", f"--name={name}"], "queue")


def requeue(placed: Placed) -> None:
    """From inside of a job: end it, and put it back into the queue under its number.

    Raises
    ------
    PlaceError : SLURM's command is missing on this node, or refuses
    """
    _call(["scontrol", "requeue", os.environ.get("SLURM_JOB_ID", placed.job)], placed.place)


def probe(place: Slurm, arguments: list[str], output: Path) -> str:
    """Send a job for a minute that runs another module of covseg than the worker; returns its number.

    Raises
    ------
    PlaceError : it was not sent
    """
    short = [f"--output={_no_pattern(output)}", "--time=2", "--no-requeue", f"--job-name={output.stem}"]
    return _number(_call([*_sbatch(place), "--parsable", *short], place.name, _script(place, arguments)))


def _sbatch(place: Slurm) -> list[str]:
    asked = {
        "--partition": place.partition,
        "--gres": f"gpu:{place.gpus}" if place.gpus else "",
        "--cpus-per-task": str(place.cpus or ""),
        "--mem": place.memory,
        "--time": place.time,
    }
    return ["sbatch", *(f"{name}={value}" for name, value in asked.items() if value), *place.options]


def _script(place: Slurm, arguments: list[str]) -> str:
    """The process takes the place of the shell, so that signals reach it."""
    variables = own_environment() | place.environment
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            *place.setup,
            f"exec {shlex.join([place.python or sys.executable, *arguments])}",
            "",
        ]
    )


def _number(answer: str) -> str:
    """Of the job that sbatch has made; empty if it says nothing. What stands before it, such as a greeting, is of the
    site; after it may come the cluster's name."""
    words = answer.split()
    return words[-1].split(";")[0] if words else ""


def _no_pattern(path: Path) -> str:
    """As sbatch takes it literally."""
    return str(path).replace("%", "%%")


def _ask(user: int) -> dict[str, Job] | PlaceError:
    form = "%j|%i|%T|%N|%r"
    try:
        answer = _call(["squeue", "--noheader", f"--user={user}", f"--format={form}"], "queue")
    except PlaceError as error:
        return error
    found = {}
    for line in answer.splitlines():
        name, number, state, node, reason = (line.strip().split("|", 4) + [""] * 4)[:5]
        found[name] = Job(number, state, reason, node)
    return found


def _call(command: list[str], place: str, script: str = "") -> str:
    """What a command of SLURM prints; where it cannot be run or fails, the reason in one line."""
    what = f"place {place}" if place != "queue" else "SLURM's queue"
    if shutil.which(command[0]) is None:
        raise PlaceError(what, f"no command {command[0]} on this machine", "a machine that can send jobs to SLURM")
    inside = {name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"}
    environment = {name: value for name, value in os.environ.items() if name not in {*inside, *_OF_A_JOB}}
    patience = _SHORT if command[0] == "squeue" else _PATIENCE
    try:
        done = subprocess.run(
            command,
            input=script,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            env=environment,
            cwd=paths.REPOSITORY if paths.REPOSITORY.is_dir() else "/",
        )
    except subprocess.TimeoutExpired:
        raise PlaceError(what, f"{command[0]} has not answered within {patience:.0f} s") from None
    except OSError as error:
        raise PlaceError(what, f"{command[0]}: {error.strerror or error}") from None
    if done.returncode:
        lines = [line.removeprefix(f"{command[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        raise PlaceError(what, f"{command[0]}: {'; '.join(lines) or f'exit code {done.returncode}'}")
    return done.stdout
