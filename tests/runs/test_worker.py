"""How a run ended is said in words that help, whatever happened to its process."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import DatasetError
from covseg_core.runs import Run, create_run, turns
from covseg_core.training.heartbeat import Heart, StopRequested
from covseg_core.worker import reason_of, signed, turn, work


@pytest.fixture
def run() -> Run:
    return _run("run-1")


def _run(id: str) -> Run:
    config = RunConfig(id, "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
    return create_run(config, Split(SplitConfig(), {}, {}, {}))


def test_a_full_disk_is_said_in_plain_words(run):
    """HDF5 reports it in 400 characters about buffers and descriptors."""
    hdf5 = OSError(f"Can't write data (file write failed: errno = 28, error message = '{os.strerror(errno.ENOSPC)}')")
    assert reason_of(hdf5, run) == f"no space left on the disk of {run.folder.parent}: free some, then resume"


def test_anything_else_is_one_line_of_bounded_length(run):
    reason = reason_of(ValueError("a\nb" * 1000), run)
    assert reason.startswith("ValueError: a b")
    assert len(reason) <= 500
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (StopRequested("stopped on request"), ("stopped", "stopped on request")),
        (DatasetError("data", "is gone"), ("failed", "data: is gone")),
        (MemoryError("no memory"), ("failed", "MemoryError: no memory")),
    ],
)
def test_every_end_is_a_state_with_a_reason(run, error, ended, monkeypatch):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("covseg_core.worker.train_and_evaluate", fails)
    with Heart(run, signed(run.status)) as heart:
        assert work(run, heart, threading.Event()) == ended


def test_a_paused_run_waits_though_the_device_is_free_and_goes_on_when_it_is_told(run):
    run.write_status(signed(run.status))
    turns.pause(run)
    with Heart(run, signed(run.status)) as heart, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(turn, run, heart, threading.Event())
        end = time.monotonic() + 30
        while heart.status.reason != "paused" and time.monotonic() < end:
            time.sleep(0.01)
        assert heart.status.reason == "paused"
        assert not waiting.done()
        turns.pause(run, False)
        waiting.result(30).release()


def test_a_stop_ends_the_waiting(run):
    run.stop_file.touch()
    with Heart(run, signed(run.status)) as heart, pytest.raises(StopRequested, match="while it waited"):
        turn(run, heart, threading.Event())


def test_a_heart_that_cannot_write_does_not_end_the_training(run: Run, tmp_path: Path):
    """The disk may be full for a moment; the next checkpoint says so if it stays full."""
    with Heart(run, signed(run.status), interval=0.01) as heart:
        run.folder.rename(tmp_path / "away")
        (run.folder).write_text("in the way")
        threading.Event().wait(0.1)
        assert heart._thread.is_alive()
        run.folder.unlink()
        (tmp_path / "away").rename(run.folder)
