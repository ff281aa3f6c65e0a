"""A run's folder says truly where it stands, also after a crash, and never loses a digit of its curve."""

from __future__ import annotations

import math
import os
import time

import pytest

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import RunError, SettingError
from covseg_core.files import write_json
from covseg_core.runs import Run, Status, create_run, delete_run, delete_runs, host, list_runs, open_run, read_status
from covseg_core.runs.liveness import this_process

SPLIT = Split(SplitConfig(), {"a": (0, 1)}, {"b": (0,)}, {"c": (3,)})


def _run(id: str = "run-1") -> Run:
    config = RunConfig(id, "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
    return create_run(config, SPLIT)


def _mine(**values) -> Status:
    return Status("running", host=host(), process=this_process(), **values)


def test_a_new_run_is_queued_and_reads_back():
    run = _run()
    assert run.status.state == "queued"
    assert open_run("run-1") == run
    assert (run.config.metric, run.split) == ("dice", SPLIT)
    assert list_runs() == [run]


def test_a_run_is_not_written_over():
    _run()
    with pytest.raises(RunError, match="exists"):
        _run()


@pytest.mark.parametrize("id", ["../escape", "a/b", "", ".hidden"])
def test_ids_never_become_paths_unchecked(id):
    with pytest.raises(SettingError):
        _run(id)
    with pytest.raises(SettingError):
        open_run(id)


def test_a_missing_run_says_where_to_look():
    with pytest.raises(RunError, match="covseg runs list"):
        open_run("nothing")


def test_shipped_models_are_found_by_name_and_not_listed_as_runs(checkpoints_folder):
    run = _run("infection-dice")
    (checkpoints_folder / "pretrained").mkdir()
    run.folder.rename(checkpoints_folder / "pretrained" / "infection-dice")
    assert open_run("infection-dice").config.metric == "dice"
    assert list_runs() == []
    assert [run.id for run in list_runs(pretrained=True)] == ["infection-dice"]


def test_a_living_process_is_running():
    run = _run()
    run.write_status(_mine())
    assert run.status.state == "running"
    run.stop_file.touch()
    assert run.status.state == "stopping"


def test_a_queued_run_whose_worker_never_came_is_lost_at_once():
    run = _run()
    run.write_status(Status("queued", host=host(), heartbeat=time.time()))
    assert run.status.state == "lost"


def test_a_status_of_an_older_version_is_read():
    run = _run()
    old = {"state": "running", "host": host(), "pid": 1, "pid_started": 1.0, "heartbeat": time.time(), "epoch": 3}
    write_json(run.folder / "status.json", old)
    assert (run.status.state, run.status.epoch) == ("lost", 3)


@pytest.mark.parametrize("state", ["finished", "failed", "stopped"])
def test_what_has_ended_stays_ended(state):
    run = _run()
    run.write_status(Status(state, reason="so it was"))
    run.stop_file.touch()
    assert (run.status.state, run.status.reason) == (state, "so it was")


def test_history_keeps_every_digit():
    """A resumed run computes learning rate and best epoch from what it reads."""
    run = _run()
    rows = [
        {"epoch": 1, "loss": 1 / 3, "val_loss": math.pi * 1e-9, "seconds": 1e-3},
        {"epoch": 2, "loss": float("inf"), "val_loss": 0.1 + 0.2, "seconds": 2.0},
    ]
    run.write_history(rows)
    assert run.history() == rows
    assert _run("run-2").history() == []


def test_an_active_run_is_not_deleted():
    run = _run()
    run.write_status(_mine())
    with pytest.raises(RunError, match="stop it first"):
        delete_run(run)
    run.write_status(Status("finished"))
    delete_run(run)
    assert not run.folder.exists()
    assert list_runs() == []


def test_of_several_runs_all_are_deleted_or_none():
    """Half an experiment would be neither a comparison nor gone."""
    runs = [_run("run-1"), _run("run-2"), _run("run-3")]
    for run, status in zip(runs, (Status("finished"), _mine(), Status("stopped")), strict=True):
        run.write_status(status)
    with pytest.raises(RunError, match="run-2: is running"):
        delete_runs(runs)
    assert list_runs() == runs
    runs[1].write_status(Status("failed"))
    delete_runs(runs)
    assert list_runs() == []
    assert not [path for path in runs[0].folder.parent.iterdir() if path.name.startswith(".deleted")]


def test_the_status_of_a_vanishing_run_is_none():
    run = _run()
    assert read_status(run) is not None
    os.remove(run.folder / "status.json")
    assert read_status(run) is None
