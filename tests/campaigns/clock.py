"""Somebody, or a time server, sets the clock while a training runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from campaigns.row import Row, environment
from campaigns.trainings import DATASET, TINY, import_phantoms, no_worker_is_left, until
from covseg_core.errors import RunError
from covseg_core.paths import data_root
from covseg_core.places.devices import Slot
from covseg_core.runs import delete_run, jobs, open_run

WHAT = "the clock jumps by 3 s, an hour forward or back, or anything up to a year, while a run lives, is lost, or is"
WHAT += " resumed: states stay right, and only what has ended is resumed or deleted"
FULL, SMALL, SECONDS, TRAINS = 100, 3, 3600, False

STEPS = (3.0, 3600.0, -3600.0)
YEAR = 365 * 86400.0

CLOCK = """
import os, time
import psutil

def _step():
    with open(os.environ["CAMPAIGN_CLOCK"]) as file:
        return float(file.read() or 0)

_time, _time_ns, _started = time.time, time.time_ns, psutil.Process.create_time
time.time = lambda: _time() + _step()
time.time_ns = lambda: _time_ns() + round(_step() * 1e9)
psutil.Process.create_time = lambda process: _started(process) + _step()  # a real step moves the boot time
"""
"""Python runs it first in the process that asks and in workers, so that for both the clock says what the file says."""


def run(count: int, seed: int) -> Row:
    """The device is busy, so that workers wait without a training."""
    chance, row = random.Random(seed), Row()
    import_phantoms()
    folder = data_root() / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK)
    clock = folder / "step"
    clock.write_text("0")
    path = {"PYTHONPATH": os.pathsep.join([str(folder), environment()["PYTHONPATH"]])}
    command = [sys.executable, "-m", "campaigns.clock"]
    with (
        no_worker_is_left(),
        Slot().lock(),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment() | path | {"CAMPAIGN_CLOCK": str(clock)},
        ) as asks,
    ):  # fmt: skip
        for number in range(count):
            steps = [STEPS[number % 3], *(chance.choice([*STEPS, chance.uniform(-YEAR, YEAR)]) for _ in range(2))]
            row.attempt(
                f"story {number} of seed {seed}, steps {', '.join(f'{step:.0f} s' for step in steps)}",
                lambda steps=steps: story(asks, clock, steps),  # type: ignore[misc]
            )
        assert asks.stdin is not None
        asks.stdin.close()
    return row


def story(asks: subprocess.Popen[str], clock: Path, steps: list[float]) -> None:
    """A run lives, is killed, is resumed, stops and is deleted; the clock jumps in between."""
    id = _ask(asks, "train")
    run = open_run(id)
    until(lambda: run.status.pid, what="for the worker")
    _jump(clock, steps[0])
    _lives(asks, id)
    os.kill(run.status.pid, signal.SIGKILL)
    until(lambda: _ask(asks, "state", id) == "lost", 5, "to read lost")
    _jump(clock, steps[1])
    _expect(asks, "state", id, "lost")
    _expect(asks, "resume", id, "done")
    _lives(asks, id)
    until(lambda: run.status.pid, what="for the resumed worker")
    _jump(clock, steps[2])
    _lives(asks, id)
    run.stop_file.touch()
    until(lambda: _ask(asks, "state", id) == "stopped", what="to stop")
    _expect(asks, "delete", id, "done")
    assert not run.folder.exists()


def _lives(asks: subprocess.Popen[str], id: str) -> None:
    for what, answer in (("state", "queued"), ("delete", "refused"), ("resume", "refused"), ("state", "queued")):
        _expect(asks, what, id, answer)


def _jump(clock: Path, step: float) -> None:
    """As a clock does: from one moment to the next."""
    new = clock.with_suffix(".new")
    new.write_text(str(float(clock.read_text()) + step))
    new.replace(clock)


def _expect(asks: subprocess.Popen[str], what: str, id: str, answer: str) -> None:
    found = _ask(asks, what, id)
    assert found == answer, f"{what}: {found}, not {answer}"


def _ask(asks: subprocess.Popen[str], *words: str) -> str:
    assert asks.stdin is not None and asks.stdout is not None
    asks.stdin.write(" ".join(words) + "\n")
    asks.stdin.flush()
    return asks.stdout.readline().strip()


def main() -> None:
    """The process that asks, as a dashboard does."""
    assert time.time.__name__ == "<lambda>", "the clock of this process does not jump"
    for line in sys.stdin:
        what, *ids = line.split()
        try:
            if what == "train":
                answer = jobs.train(DATASET, ["dice"], epochs=1, **TINY)[0].id  # type: ignore[arg-type]
            elif what == "state":
                answer = open_run(ids[0]).status.state
            else:
                {"resume": jobs.resume, "delete": delete_run}[what](open_run(ids[0]))
                answer = "done"
        except RunError:
            answer = "refused"
        except Exception as error:
            answer = " ".join(f"{type(error).__name__}: {error}".split())
        print(answer, flush=True)


if __name__ == "__main__":
    main()
