"""Trainings survive what happens to them: real worker processes, stopped, killed and resumed."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import time
from collections.abc import Callable

import pytest

from covseg_core.data.library.datasets import delete_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.errors import CovsegError, DatasetError, RunError
from covseg_core.runs import Run, jobs, list_runs, open_run

pytestmark = pytest.mark.timeout(1500)  # each training starts a process; on a busy core that alone takes a minute
TINY = {"size": 32, "filters": 2, "batch": 4}


def _until(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _log(run: Run) -> str:
    return run.log.read_text()


@pytest.fixture(autouse=True)
def _no_worker_is_left():
    """A training that a failed test leaves behind would slow down all tests after it."""
    yield
    for run in list_runs():
        if run.status.state in ("queued", "running", "stopping"):
            run.stop_file.touch()
    jobs.wait(list_runs())


@pytest.mark.training
def test_three_metrics_train_one_after_another(phantoms):
    """The main job: one command, three comparable models, all with curves, weights and evaluation."""
    runs = jobs.train(phantoms, epochs=2, **TINY)
    seen_running = []
    jobs.wait(runs, lambda: seen_running.append([run.config.metric for run in runs if run.status.state == "running"]))

    for run in runs:
        assert (run.status.state, run.status.reason) == ("finished", ""), _log(run)
        assert [row["epoch"] for row in run.history()] == [1, 2]
        for file in (run.best_weights, run.onnx, run.evaluation, run.test_predictions, run.previews / "epoch_0002.npy"):
            assert file.exists(), file
    assert max(len(running) for running in seen_running) == 1, "one training a device at a time"
    order = [running[0] for running in seen_running if running]
    assert order == sorted(order, key=["accuracy", "iou", "dice"].index), "oldest first"
    first, *others = runs
    assert all(run.split == first.split for run in others)
    assert all(run.config.experiment == first.config.experiment for run in others)


@pytest.mark.training
def test_a_stopped_and_a_killed_training_resume_with_the_same_curve(phantoms):
    """The promise behind `resume`: nobody can tell from the curve that the power failed."""
    [whole] = jobs.train(phantoms, ["dice"], epochs=5, **TINY)
    [broken] = jobs.train(phantoms, ["dice"], epochs=5, **TINY)

    _until(lambda: broken.status.epoch >= 1)
    jobs.stop(broken)
    jobs.wait([broken])
    assert (broken.status.state, broken.status.reason) == ("stopped", "stopped on request")
    assert broken.onnx.exists(), "what was learned until then can be used"

    done = broken.status.epoch
    jobs.resume(broken)
    _until(lambda: broken.status.state == "running" and broken.status.epoch > done)
    os.kill(broken.status.pid, signal.SIGKILL)
    _until(lambda: broken.status.state == "lost")

    jobs.resume(broken)
    jobs.wait([whole, broken])
    assert broken.status.state == "finished", _log(broken)
    assert "resumed after epoch" in _log(broken)
    assert len(whole.history()) == len(broken.history()) == 5
    for expected, found in zip(whole.history(), broken.history(), strict=True):
        for name in set(expected) - {"seconds", "total_seconds"}:
            assert found[name] == pytest.approx(expected[name], abs=1e-6), (expected["epoch"], name)
    totals = [row["total_seconds"] for row in broken.history()]
    assert totals == sorted(totals)


@pytest.mark.training
def test_a_waiting_run_can_be_stopped_and_the_next_one_takes_its_place(phantoms):
    first, second, third = jobs.train(phantoms, epochs=3, **TINY)
    _until(lambda: first.status.state == "running")
    jobs.stop(second)
    _until(lambda: second.status.state == "stopped")
    assert second.status.reason == "stopped while it waited"
    assert second.status.epoch == 0
    jobs.wait([first, third])
    assert [first.status.state, third.status.state] == ["finished", "finished"]


@pytest.mark.training
def test_a_termination_signal_stops_at_the_next_batch(phantoms):
    """What a machine sends that shuts down."""
    [run] = jobs.train(phantoms, ["iou"], epochs=500, **TINY)
    _until(lambda: run.status.epoch >= 1)
    os.kill(run.status.pid, signal.SIGTERM)
    _until(lambda: run.status.state == "stopped")
    assert run.status.reason == "the process was told to end"


@pytest.mark.training
def test_a_dataset_that_is_gone_when_its_turn_comes_fails_with_the_reason(phantoms):
    first, second = jobs.train(phantoms, ["dice", "iou"], epochs=500, **TINY)
    _until(lambda: first.status.epoch >= 1)
    delete_dataset(phantoms)
    jobs.stop(first)
    jobs.wait([first, second])
    assert second.status.state == "failed"
    assert "no such dataset" in second.status.reason
    assert "Traceback" in _log(second), "the log helps who looks for the cause"


@pytest.mark.training
def test_a_dataset_that_changed_is_not_trained_on(phantoms, phantom_files):
    """A curve whose second half saw other patients would be nobody's experiment."""
    [run] = jobs.train(phantoms, ["dice"], epochs=500, **TINY)
    _until(lambda: run.status.epoch >= 1)
    jobs.stop(run)
    jobs.wait([run])
    delete_dataset(phantoms)
    import_dataset(phantoms, sorted(phantom_files.iterdir())[1:], allow_empty=True)
    jobs.resume(run)
    jobs.wait([run])
    assert run.status.state == "failed"
    assert "has changed since the run was created" in run.status.reason


@pytest.mark.training
def test_only_what_has_ended_resumes_and_only_what_is_active_stops(trained, no_training):
    [run] = jobs.train("phantoms", ["dice"], epochs=1, **TINY)
    with pytest.raises(RunError, match="a run that is stopped, failed or lost"):
        jobs.resume(run)
    with pytest.raises(RunError, match="is finished"):
        jobs.resume(trained[0])
    with pytest.raises(RunError, match="queued or running"):
        jobs.stop(trained[0])
    run.write_status(dataclasses.replace(run.status, state="stopped"))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"size": 100}, {"preset": "best"}, {"batch": 0}, {"filters": 0}])
def test_a_wrong_setting_leaves_no_run_behind(phantoms, wrong):
    with pytest.raises(CovsegError, match="expected"):
        jobs.train(phantoms, **(TINY | wrong))
    assert list_runs() == []


def test_an_unknown_dataset_is_said_before_anything_starts():
    with pytest.raises(DatasetError):
        jobs.train("nothing")


@pytest.mark.training
def test_a_second_worker_leaves_a_run_alone(phantoms):
    """Two dashboards resume the same run at once: its folder must not be written twice."""
    [run] = jobs.train(phantoms, ["dice"], epochs=500, **TINY)
    _until(lambda: run.status.state == "running")
    pid = run.status.pid
    jobs.start(run)
    _until(lambda: "another worker has this run" in _log(run))
    assert (run.status.state, run.status.pid) == ("running", pid)
    jobs.stop(run)
    jobs.wait([run])
    assert open_run(run.id).status.state == "stopped"


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.training
def test_a_training_with_jax_ends_with_a_model_that_predicts(phantoms, monkeypatch):
    """On a GPU machine with JAX: same run folder, exported with TensorFlow's help, compared with the others."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    [run] = jobs.train(phantoms, ["dice"], epochs=2, **TINY)
    jobs.wait([run])
    assert run.status.state == "finished", _log(run)
    assert run.config.versions["backend"] == "jax"
    assert ", jax, " in run.status.device
    assert run.onnx.exists()
    assert "differs from Keras by at most" in _log(run)
