"""Trainings survive what happens to them: real worker processes, stopped, killed and resumed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from filelock import BaseFileLock

from covseg_core.data.library.datasets import delete_dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.errors import CovsegError, DatasetError, RunError
from covseg_core.places import local
from covseg_core.places.devices import Slot
from covseg_core.places.environment import environment
from covseg_core.runs import Run, delete_run, jobs, list_runs, open_run

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


@pytest.fixture
def busy(checkpoints_folder: Path) -> Iterator[BaseFileLock]:
    """The device is taken: workers wait for it, which they do without having loaded Keras, until `busy.release()`."""
    with Slot().lock() as lock:
        yield lock


@pytest.mark.training
def test_three_metrics_train_one_after_another(trained, trained_folders):
    """The main job: one command, three comparable models, all with curves, weights and evaluation."""
    runs, seen_running = trained, json.loads((trained_folders / "running.json").read_text())
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
def test_a_waiting_run_can_be_stopped_and_the_next_one_takes_its_place(phantoms, busy):
    first, second = jobs.train(phantoms, ["accuracy", "iou"], epochs=1, **TINY)
    _until(lambda: second.status.reason == "waiting for 1 ahead")
    jobs.stop(first)
    _until(lambda: first.status.state == "stopped")
    assert first.status.reason == "stopped while it waited"
    assert first.status.epoch == 0
    _until(lambda: second.status.reason == "waiting for the device")
    busy.release()
    jobs.wait([second])
    assert second.status.state == "finished", _log(second)


@pytest.mark.training
def test_a_termination_signal_stops_at_the_next_batch(phantoms):
    """What a machine sends that shuts down."""
    [run] = jobs.train(phantoms, ["iou"], epochs=500, **TINY)
    _until(lambda: run.status.epoch >= 1)
    os.kill(run.status.pid, signal.SIGTERM)
    _until(lambda: run.status.state == "stopped")
    assert run.status.reason == "the process was told to end"


@pytest.mark.training
def test_a_dataset_that_is_gone_when_its_turn_comes_fails_with_the_reason(phantoms, busy):
    [run] = jobs.train(phantoms, ["dice"], epochs=1, **TINY)
    _until(lambda: run.status.reason == "waiting for the device")
    delete_dataset(phantoms)
    busy.release()
    jobs.wait([run])
    assert run.status.state == "failed"
    assert "no such dataset" in run.status.reason
    assert "Traceback" in _log(run), "the log helps who looks for the cause"


@pytest.mark.training
def test_a_dataset_that_changed_is_not_trained_on(trained, phantom_files):
    """A curve whose second half saw other patients would be nobody's experiment."""
    run = trained[2]
    run.write_status(dataclasses.replace(run.status, state="stopped"))
    delete_dataset("phantoms")
    import_dataset("phantoms", sorted(phantom_files.iterdir())[1:], allow_empty=True)
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


WRONG = [{"epochs": 0}, {"size": 100}, {"preset": "best"}, {"batch": 0}, {"filters": 0}, {"learning_rate": 0.0}]
WRONG += [{"patience": -1}, {"augmentation": "more"}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_leaves_no_run_behind(phantoms, wrong):
    with pytest.raises(CovsegError, match="expected"):
        jobs.train(phantoms, **(TINY | wrong))
    assert list_runs() == []


def test_lungs_that_nobody_can_find_are_said_before_anything_starts(phantoms, monkeypatch):
    """The dataset has no lung masks, and the lung model is not there."""
    from covseg_core.runs import lung_model

    dataset = load_dataset(phantoms)
    cases = tuple(dataclasses.replace(case, lung=None) for case in dataset.cases)
    monkeypatch.setattr(jobs, "load_dataset", lambda name: dataclasses.replace(dataset, cases=cases))
    monkeypatch.setattr(lung_model, "shipped_lungs", lambda: None)
    with pytest.raises(DatasetError, match="no lung mask, and no model `lung` to find the lungs"):
        jobs.train(phantoms, ["dice"], region="lungs", **TINY)
    assert list_runs() == []


def test_an_unknown_dataset_is_said_before_anything_starts():
    with pytest.raises(DatasetError):
        jobs.train("nothing")


def test_a_second_worker_leaves_a_run_alone(phantoms, busy):
    """Two dashboards resume the same run at once: its folder must not be written twice."""
    [run] = jobs.train(phantoms, ["dice"], epochs=1, **TINY)
    _until(lambda: run.status.reason == "waiting for the device")
    before = run.status
    with pytest.raises(RunError, match="another worker has this run"):
        jobs.start(run)
    by_hand = [sys.executable, "-m", "covseg_core.worker", str(run.folder)]
    done = subprocess.run(by_hand, env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, f"{run.id}: another worker has this run\n")
    assert (run.status.state, run.status.pid) == ("queued", before.pid)
    jobs.stop(run)
    jobs.wait([run])
    assert open_run(run.id).status.state == "stopped"


@pytest.mark.parametrize("step", [3, 3600, -3600])
def test_a_step_of_the_clock_ends_no_run(phantoms, busy, monkeypatch, step):
    """A machine sets its clock while it trains: nobody may delete the run under its worker, or start a second one."""
    [run] = jobs.train(phantoms, ["dice"], epochs=1, **TINY)
    _until(lambda: run.status.reason == "waiting for the device")
    now, started = time.time, psutil.Process.create_time
    monkeypatch.setattr(time, "time", lambda: now() + step)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + step)  # as after a real step
    assert run.status.state == "queued"
    with pytest.raises(RunError, match="is queued; expected a run that has ended"):
        delete_run(run)
    with pytest.raises(RunError, match="is queued; expected a run that is stopped, failed or lost"):
        jobs.resume(run)
    jobs.stop(run)
    jobs.wait([run])
    assert run.status.state == "stopped"
    delete_run(run)
    assert list_runs() == []


def test_a_worker_killed_before_its_first_word_is_lost_at_once_and_can_be_resumed(phantoms, busy):
    [run] = jobs.train(phantoms, ["dice"], epochs=1, **TINY)
    assert run.status.state == "queued"
    for state in ("lost", "lost"):
        for folder, worker in local.children:
            if folder == run.folder:
                worker.kill()
                worker.wait()
        assert (run.status.state, run.status.pid) == (state, 0), "it had not come far enough to sign"
        jobs.resume(run)
        assert run.status.state == "queued"
    _until(lambda: run.status.reason == "waiting for the device")


def test_of_many_who_resume_a_run_at_once_one_does(phantoms, busy):
    [run] = jobs.train(phantoms, ["dice"], epochs=1, **TINY)
    jobs.stop(run)
    jobs.wait([run])

    def resume(_: int) -> str:
        try:
            jobs.resume(run)
        except RunError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(resume, range(4)))
    assert said.count("") == 1, said
    assert all("is queued" in words or "still runs" in words for words in said if words), said
    _until(lambda: run.status.reason == "waiting for the device")


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.training
def test_a_training_with_jax_ends_with_a_model_that_predicts(phantoms, monkeypatch):
    """On a GPU machine with JAX: same run folder, exported with TensorFlow's help, compared with the others."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiles in half the time
    [run] = jobs.train(phantoms, ["dice"], epochs=2, **TINY)
    jobs.wait([run])
    assert run.status.state == "finished", _log(run)
    assert run.config.versions["backend"] == "jax"
    assert ", jax, " in run.status.device
    assert run.onnx.exists()
    assert "differs from Keras by at most" in _log(run)
