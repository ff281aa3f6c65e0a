"""One training a device: a machine with four GPUs that trains one run at a time wastes three of them."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import PlaceError
from covseg_core.places.devices import Slot, slots, take_free
from covseg_core.runs import Run, create_run, jobs
from covseg_core.training.heartbeat import Heart
from covseg_core.worker import signed, turn

TINY = {"size": 32, "filters": 2, "batch": 4}


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a computer where nobody has said anything of devices; what a test chooses ends with it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.delenv("COVSEG_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)


def _places(text: str) -> None:
    file = Path(os.environ["COVSEG_CHECKPOINTS"]) / "places.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _nvml(count: int) -> ModuleType:
    nvml = ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})  # type: ignore[attr-defined]
    nvml.nvmlInit = lambda: None  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetCount = lambda: count  # type: ignore[attr-defined]
    return nvml


def test_without_a_word_there_is_one_and_it_hides_nothing():
    assert slots() == [Slot("", 0)]
    Slot().choose()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_all_visible_gpus_are_used_if_nobody_chooses(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(4))
    assert [slot.device for slot in slots()] == ["0", "1", "2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [slot.device for slot in slots()] == ["2", "3"]


@pytest.mark.parametrize("visible", ["", "-1", "0"])
def test_a_single_device_stays_as_it_was(monkeypatch, visible):
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(4))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots() == [Slot()]


def test_the_file_chooses_and_the_environment_before_it(monkeypatch):
    _places('[local]\ndevices = ["0+1", "2", "cpu", "cpu"]\n')
    assert slots() == [Slot("0+1"), Slot("2"), Slot("cpu", 0), Slot("cpu", 1)]
    monkeypatch.setenv("COVSEG_DEVICES", "3, 1")
    assert slots() == [Slot("3"), Slot("1")]


@pytest.mark.parametrize(("device", "visible"), [("0+1", "0,1"), ("2", "2"), ("cpu", "")])
def test_a_training_sees_its_device_alone(device, visible):
    Slot(device).choose()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize("said", ["0;1", "0,,1", "../x+"])
def test_a_wrong_device_is_one_clear_line_before_anything_starts(phantoms, monkeypatch, said):
    monkeypatch.setenv("COVSEG_DEVICES", said)
    with pytest.raises(PlaceError, match="COVSEG_DEVICES: .*; expected the number of a GPU"):
        jobs.train(phantoms, ["dice"], epochs=1, **TINY)


def test_each_is_given_once():
    found = [Slot("cpu", 0), Slot("cpu", 1)]
    first, second = take_free(found), take_free(found)
    assert first and second
    assert [first[0], second[0]] == found
    assert take_free(found) is None
    first[1].release()
    third = take_free(found)
    assert third and third[0] == found[0]


def _run(id: str) -> Run:
    config = RunConfig(id, "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    run.write_status(signed(run.status))
    return run


def test_who_waits_takes_the_next_device_that_is_free(monkeypatch):
    monkeypatch.setenv("COVSEG_DEVICES", "cpu,cpu")
    run, both = _run("run-1"), slots()
    with both[0].lock() as first, both[1].lock() as second:
        with Heart(run, signed(run.status)) as heart:
            waiting = threading.Thread(target=lambda: taken.append(turn(run, heart, threading.Event())))
            taken: list[object] = []
            waiting.start()
            time.sleep(0.5)
            assert not taken
            second.release()
            waiting.join(30)
            assert len(taken) == 1
            assert take_free(both) is None
        first.release()


@pytest.mark.training
@pytest.mark.timeout(900)
def test_two_devices_train_two_runs_side_by_side_and_the_third_follows(phantoms, monkeypatch):
    monkeypatch.setenv("COVSEG_DEVICES", "cpu,cpu")
    runs = jobs.train(phantoms, ["accuracy", "iou", "dice"], epochs=4, **TINY)
    seen: set[frozenset[str]] = set()
    jobs.wait(runs, lambda: seen.add(frozenset(run.config.metric for run in runs if run.status.state == "running")))
    assert [run.status.state for run in runs] == ["finished"] * 3
    assert max(map(len, seen)) == 2
    assert frozenset({"accuracy", "iou"}) in seen
    assert [run.placed.kind for run in runs] == ["local"] * 3
