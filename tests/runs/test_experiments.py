"""Two people who start trainings in the same second get two experiments, each with its own seed and its own runs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
from fakeruns import Idle

from covseg_core.errors import RunError
from covseg_core.places.environment import environment
from covseg_core.runs import jobs, list_runs

TINY = {"epochs": 1, "size": 32, "filters": 2, "batch": 4}
SHOTS = """
import subprocess, sys
from fakeruns import Idle
from covseg_core.runs import jobs
subprocess.Popen = Idle
for line in sys.stdin:
    metric, seed = line.split()
    try:
        [run] = jobs.train("phantoms", [metric], epochs=1, size=32, filters=2, batch=4, seed=int(seed))
        print(run.id, flush=True)
    except Exception as error:
        print("failed:", " ".join(str(error).split()), flush=True)
"""


def test_pairs_of_processes_that_train_in_the_same_second_make_an_experiment_each(phantoms: str) -> None:
    """The same metric must not collide, and another must not join the experiment of another seed."""
    command = [sys.executable, "-c", SHOTS]
    path = f"{Path(__file__).parents[1] / 'synthetic'}:{environment()['PYTHONPATH']}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    variables = environment() | {"PYTHONPATH": path}
    with (
        subprocess.Popen(command, env=variables, **pipes) as one,
        subprocess.Popen(command, env=variables, **pipes) as two,
    ):
        ids = []
        for pair in range(8):
            metrics = ("dice", "iou") if pair % 2 else ("dice", "dice")
            for number, process in enumerate((one, two)):
                process.stdin.write(f"{metrics[number]} {2 * pair + number}\n")
                process.stdin.flush()
            ids += [process.stdout.readline().strip() for process in (one, two)]
        for process in (one, two):
            process.stdin.close()
    assert not [id for id in ids if id.startswith("failed")]
    runs = list_runs()
    assert sorted(ids) == [run.id for run in runs]
    seeds = defaultdict(set)
    for run in runs:
        seeds[run.config.experiment].add(run.config.train.seed)
    assert len(seeds) == 16
    assert all(len(found) == 1 for found in seeds.values()), "runs of two seeds are no experiment"


def test_threads_of_a_dashboard_make_an_experiment_each(phantoms: str, no_training: None) -> None:
    together = threading.Barrier(4)

    def train(seed: int) -> str:
        together.wait()
        return jobs.train(phantoms, ["dice"], seed=seed, **TINY)[0].config.experiment

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(train, range(4)))) == 4
    assert len(Idle.held) == len(list_runs()) == 4


def test_runs_whose_worker_could_not_be_started_are_lost_not_queued_for_ever(
    phantoms: str, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dashboard that made them lives on, but will not start them any more."""

    class SecondFails(Idle):
        def __init__(self, command: list[str], **settings: object) -> None:
            if Idle.held:
                raise OSError("no room for another process")
            super().__init__(command, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(subprocess, "Popen", SecondFails)
    with pytest.raises(OSError, match="no room"):
        jobs.train(phantoms, ["accuracy", "iou", "dice"], **TINY)
    assert {run.config.metric: run.status.state for run in list_runs()} == {
        "accuracy": "queued",
        "iou": "lost",
        "dice": "lost",
    }


def test_who_cannot_name_a_run_in_time_is_told(
    phantoms: str, checkpoints_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_NAMING", 0.1)
    (checkpoints_folder / ".locks").mkdir(parents=True)
    with filelock.FileLock(checkpoints_folder / ".locks" / "names.lock"), pytest.raises(RunError, match="has held it"):
        jobs.train(phantoms, ["dice"], **TINY)
    assert list_runs() == []
