"""Two people press *Start* in the same second."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import IO

from campaigns.row import Row, environment
from campaigns.trainings import DATASET, TINY, import_phantoms, no_worker_is_left, until
from covseg_core.errors import CovsegError
from covseg_core.places.devices import Slot
from covseg_core.runs import delete_run, jobs, list_runs, open_run

WHAT = "two processes train at the same moment with different seeds: no failure, no run in the other's experiment"
FULL, SMALL, SECONDS, TRAINS = 50, 3, 1800, False

CHOICES = (["dice"], ["iou"], ["accuracy", "dice"], ["accuracy", "iou", "dice"])


def run(count: int, seed: int) -> Row:
    """The device is busy, so that workers start and wait, without a training."""
    chance, row, runs = random.Random(seed), Row(), 0
    import_phantoms()
    with no_worker_is_left(), Slot().lock(), _process() as one, _process() as two:
        for number in range(count):
            one_metrics = chance.choice(CHOICES)
            # half of all pairs want the very same names
            asked = [one_metrics, one_metrics if chance.random() < 0.5 else chance.choice(CHOICES)]
            runs += sum(map(len, asked))
            row.attempt(
                f"pair {number} of seed {seed}",
                lambda number=number, asked=asked: pair([one, two], asked, 2 * number),  # type: ignore[misc]
            )
        for process in (one, two):
            _pipe(process.stdin).close()
    row.note = f"{runs} runs"
    return row


def pair(processes: list[subprocess.Popen[str]], asked: list[list[str]], seed: int) -> None:
    """Let both train, compare what they made with what was asked, and remove it."""
    for number, (process, metrics) in enumerate(zip(processes, asked, strict=True)):
        _pipe(process.stdin).write(f"{seed + number} {' '.join(metrics)}\n")
    for process in processes:
        _pipe(process.stdin).flush()
    said = [_pipe(process.stdout).readline().split() for process in processes]
    try:
        experiments = set()
        for number, (ids, metrics) in enumerate(zip(said, asked, strict=True)):
            if len(ids) != len(metrics) or ids[0] == "failed":
                raise CovsegError("train", " ".join(ids) or "ended", "runs")
            for id, metric in zip(ids, metrics, strict=True):
                config = open_run(id).config
                assert (config.metric, config.train.seed) == (metric, seed + number), f"{id} is of another"
                experiments.add((config.experiment, number))
        assert len({experiment for experiment, _ in experiments}) == 2, f"merged: {experiments}"
        assert sorted(id for ids in said for id in ids) == [run.id for run in list_runs()]
        for run in list_runs():
            assert run.status.state == "queued", f"{run.id} is {run.status.state}: {run.log.read_text()[-200:]}"
    finally:
        for run in list_runs():
            run.stop_file.touch()
        until(lambda: all(run.status.state == "stopped" for run in list_runs()), what="for workers to stop")
        for run in list_runs():
            delete_run(run)


def _process() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "campaigns.race"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def main() -> None:
    """One of the two: trains as each line says, and answers with the ids."""
    for line in sys.stdin:
        seed, *metrics = line.split()
        try:
            runs = jobs.train(DATASET, metrics, epochs=1, seed=int(seed), **TINY)  # type: ignore[arg-type]
            print(*(run.id for run in runs), flush=True)
        except Exception as error:
            print("failed", type(error).__name__, *str(error).split(), flush=True)


if __name__ == "__main__":
    main()
