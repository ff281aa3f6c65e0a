"""Long work in a thread of its own: it outlives reruns and closed tabs, says how far it is, and can be cancelled.

A page starts it with `start`, keeps the id, and shows it with `dashboard.components.task_progress`. What runs in the
thread must not call Streamlit. To cancel is to raise out of the next call of `progress`, so that whoever is
called cleans up as after any other error.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import streamlit as st

from covseg_core.errors import Cancelled, CovsegError

State = Literal["running", "finished", "failed", "cancelled"]

KEPT_SECONDS = 3600.0
"""How long an ended task and its result can be asked for."""
KEPT_TASKS = 100
"""How many ended tasks are kept at most, the newest."""

_logger = logging.getLogger("covseg.tasks")


@dataclass(eq=False)
class Task:
    """A piece of long work, and how far it is."""

    kind: str
    """What sort of work, such as `import`: to find tasks by."""
    label: str
    """Shown to the user: `Importing ct20`; see also `TaskProgress.phase`."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    unit: str = ""
    """What is counted, if the work says so; `bytes` are shown as MB."""
    done: int = 0
    total: int = 0
    """0 as long as nobody knows."""
    state: State = "running"
    result: Any = None
    error: str = ""
    """One line for the user, if it failed."""
    cancelling: threading.Event = field(default_factory=threading.Event, repr=False)
    started: float = field(default_factory=time.monotonic)
    """Start of the present phase [s]."""
    ended: float = 0.0

    def cancel(self) -> None:
        """End it at its next sign of progress."""
        self.cancelling.set()

    @property
    def seconds_left(self) -> float | None:
        """By the speed so far; None as long as that says nothing."""
        elapsed = time.monotonic() - self.started
        if not 0 < self.done < self.total or elapsed < 1:
            return None
        return elapsed / self.done * (self.total - self.done)


class TaskProgress:
    """What the work calls, in its thread: `progress(done, total)`.

    Raises
    ------
    Cancelled : from every call after the task was cancelled
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, done: int, total: int) -> None:
        self.check()
        if total != self._task.total or done < self._task.done:
            self._task.started = time.monotonic()
        self._task.done, self._task.total = done, total

    def phase(self, label: str, unit: str = "") -> None:
        """Begin the next part of the work; the count and the time left start anew."""
        self.check()
        self._task.label, self._task.unit = label, unit
        self._task.done, self._task.total, self._task.started = 0, 0, time.monotonic()

    def check(self) -> None:
        """Raise if the task was cancelled."""
        if self._task.cancelling.is_set():
            raise Cancelled


Work = Callable[[TaskProgress, threading.Event], Any]


def start(kind: str, label: str, work: Work) -> str:
    """Do `work(progress, cancelled)` in a thread; returns the task's id, for session state or the URL.

    A `CovsegError` becomes the task's `error`; any other exception is a bug, whose traceback goes to the log.
    """
    task = Task(kind, label)
    _registry().add(task)
    threading.Thread(target=_do, args=(task, work), name=f"covseg-{kind}-{task.id}", daemon=True).start()
    return task.id


def get(id: str | None) -> Task | None:
    """The task; None if there is none of that id, or it ended long ago."""
    return _registry().get(id) if id else None


def running(kind: str) -> list[Task]:
    """Tasks of a kind that have not ended, whoever started them, oldest first."""
    return [task for task in _registry().all() if task.kind == kind and task.state == "running"]


def _do(task: Task, work: Work) -> None:
    """The thread. The state is set last, since others look at it first."""
    state: State = "finished"
    try:
        task.result = work(TaskProgress(task), task.cancelling)
    except Cancelled:
        state = "cancelled"
    except CovsegError as error:
        state, task.error = "failed", str(error)
    except Exception as error:
        _logger.exception("%s failed", task.label)
        state = "failed"
        kind = type(error).__name__
        task.error = f"{task.label}: a fault in covseg ({kind}), not in your files; see the terminal of the dashboard"
    task.ended = time.monotonic()
    task.state = state


class _Registry:
    """All tasks of this process."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()

    def add(self, task: Task) -> None:
        with self._lock:
            self._forget()
            self._tasks[task.id] = task

    def get(self, id: str) -> Task | None:
        with self._lock:
            self._forget()
            return self._tasks.get(id)

    def all(self) -> list[Task]:
        with self._lock:
            return list(self._tasks.values())

    def _forget(self) -> None:
        ended = [task for task in self._tasks.values() if task.state != "running"]
        ended.sort(key=lambda task: task.ended)
        oldest = time.monotonic() - KEPT_SECONDS
        for number, task in enumerate(ended, start=1):
            if task.ended < oldest or number <= len(ended) - KEPT_TASKS:
                del self._tasks[task.id]


@st.cache_resource(show_spinner=False)
def _registry() -> _Registry:
    return _Registry()
