"""Long work behind a page: it must end, say how far it is, and leave nothing behind when it is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from covseg_core.data.library import datasets, importing
from covseg_core.errors import DatasetError
from dashboard.components import task_progress
from dashboard.services import tasks


def ended(id: str) -> tasks.Task:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        task = tasks.get(id)
        assert task is not None
        if task.state != "running":
            return task
        time.sleep(0.01)
    raise AssertionError("the task does not end")


class Steps:
    """Work of five steps, each done when the test lets it."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.done = threading.Event()

    def __call__(self, progress: tasks.TaskProgress, cancelled: threading.Event) -> str:
        for step in range(5):
            self.gate.acquire()
            progress(step + 1, 5)
            self.done.set()
        return "result"

    def step(self) -> None:
        self.done.clear()
        self.gate.release()
        assert self.done.wait(10)


def test_work_goes_on_in_the_background_and_its_result_is_kept() -> None:
    work = Steps()
    id = tasks.start("test", "Counting", work)
    work.step()
    task = tasks.get(id)
    assert task is not None
    assert (task.state, task.done, task.total) == ("running", 1, 5)
    assert task in tasks.running("test")
    work.gate.release(4)
    assert ended(id).result == "result"
    assert task not in tasks.running("test")


def test_an_error_of_the_user_is_one_line_and_a_bug_is_called_one(caplog: pytest.LogCaptureFixture) -> None:
    def mendable(progress: tasks.TaskProgress, cancelled: threading.Event) -> None:
        raise DatasetError("ct.nii.gz", "4 dimensions", "3 dimensions")

    def bug(progress: tasks.TaskProgress, cancelled: threading.Event) -> None:
        raise ZeroDivisionError("secret detail")

    assert ended(tasks.start("test", "Reading", mendable)).error == "ct.nii.gz: 4 dimensions; expected 3 dimensions"
    assert not caplog.records
    task = ended(tasks.start("test", "Reading", bug))
    assert task.state == "failed"
    assert "ZeroDivisionError" in task.error
    assert "secret detail" in caplog.text, "who mends it needs the traceback"


def test_cancel_ends_the_work_at_its_next_sign_of_progress() -> None:
    work = Steps()
    id = tasks.start("test", "Counting", work)
    work.step()
    task = tasks.get(id)
    assert task is not None
    task.cancel()
    work.gate.release()
    assert ended(id).state == "cancelled"
    assert task.done == 1


@pytest.mark.parametrize("there", [False, True], ids=["new dataset", "more cases"])
def test_a_cancelled_import_leaves_nothing_behind(
    phantom_files: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Half a dataset would be trained on as if it were whole."""
    if there:
        importing.import_sample("scans", scans=3, size=64, seed=5)
    if there:
        # phantoms of other patients under other names, so that only the cancelling keeps them out
        monkeypatch.setattr(importing, "pair", _renamed(importing.pair))
    before = sorted(path for path in data_folder.rglob("*"))

    def work(progress: tasks.TaskProgress, cancelled: threading.Event) -> str:
        def cancelled_after_the_first(done: int, total: int) -> None:
            cancelled.set()
            progress(done, total)

        paths = [phantom_files]
        return importing.import_dataset("scans", paths, allow_empty=True, progress=cancelled_after_the_first).name

    assert ended(tasks.start("import", "Importing", work)).state == "cancelled"
    assert sorted(path for path in data_folder.rglob("*")) == before
    assert datasets.list_datasets() == (["scans"] if there else [])


def _renamed(pair: Callable[..., tuple]) -> Callable[..., tuple]:
    import dataclasses

    return lambda files: tuple(dataclasses.replace(group, id=f"other_{group.id}") for group in pair(files))


def test_ended_tasks_are_forgotten_and_running_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard runs for weeks: results must not pile up."""
    work = Steps()
    busy = tasks.start("test", "Counting", work)
    old = tasks.start("test", "Nothing", lambda progress, cancelled: "big result")
    ended(old)
    monkeypatch.setattr(tasks, "KEPT_SECONDS", -1.0)
    assert tasks.get(old) is None
    assert tasks.get(busy) is not None
    monkeypatch.undo()
    monkeypatch.setattr(tasks, "KEPT_TASKS", 2)
    ids = [tasks.start("test", "Nothing", lambda progress, cancelled: None) for _ in range(4)]
    for id in ids:
        while (task := tasks.get(id)) is not None and task.state == "running":
            time.sleep(0.01)
    assert len([id for id in ids if tasks.get(id)]) == 2
    work.gate.release(5)
    ended(busy)


def test_progress_in_words() -> None:
    task = tasks.Task("import", "Importing ct20", done=3, total=12, started=time.monotonic() - 30)
    assert task_progress.progress_text(task, "cases") == "Importing ct20: 3 of 12 cases, about 2 min left"
    task = tasks.Task("download", "Downloading", unit="bytes", done=5_000_000, total=20_000_000)
    assert task_progress.progress_text(task) == "Downloading: 5 of 20 MB"
    assert task_progress.progress_text(tasks.Task("import", "Importing")) == "Importing", "no number nobody knows"
    task.cancel()
    assert task_progress.progress_text(task) == "Downloading: cancelling"


def test_a_new_phase_counts_anew() -> None:
    """A download of many bytes, then a few cases: the bar must not jump to its end."""
    task = tasks.Task("download", "Downloading", done=7, total=9)
    tasks.TaskProgress(task).phase("Reading", "cases")
    assert (task.label, task.unit, task.done, task.total) == ("Reading", "cases", 0, 0)


def page() -> None:
    import streamlit as st

    from dashboard.components import task_progress

    task = task_progress.show(st.session_state.get("task"), unit="steps")
    st.write(f"state {task.state if task else None}")


def test_a_page_shows_the_bar_until_the_end_and_can_cancel() -> None:
    work = Steps()
    app = AppTest.from_function(page, default_timeout=60)
    app.session_state["task"] = tasks.start("test", "Counting", work)
    work.step()
    app.run()
    assert app.markdown[0].value == "state None"
    assert app.get("progress")[0].proto.text.startswith(
        "Counting: 1 of 5 steps"
    )  # on a busy machine with the time left
    [cancel] = app.button
    cancel.click().run()
    work.gate.release()
    ended(app.session_state["task"])
    app.run()
    assert app.markdown[0].value == "state cancelled"
    assert not app.button


def test_a_page_with_an_id_of_long_ago_is_as_without() -> None:
    app = AppTest.from_function(page, default_timeout=60)
    app.session_state["task"] = "gone"
    assert app.run().markdown[0].value == "state None"
    assert not app.exception
