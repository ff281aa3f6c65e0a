"""Long work on a page: its progress with a Cancel button, and the button that starts it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.formatting import duration
from dashboard.services import tasks

TASKS = "tasks"
"""In the session: what was asked for -> id of the task that does it."""


def task_button(
    key: Hashable,
    label: str,
    work: tasks.Work,
    *,
    doing: str,
    cancelled: str,
    icon: str,
    primary: bool = False,
    place: DeltaGenerator | None = None,
) -> tasks.Task | None:
    """A button that starts long work; its progress while that runs, and afterwards what went wrong.

    Parameters
    ----------
    key : what is asked for: another key is other work
    label, icon, primary : of the button
    work : as `tasks.start` takes it
    doing : label of the task
    cancelled : what to say once it was cancelled
    place : where the button stands; the page if None

    Returns
    -------
    The task of this key, if there is one: while it runs there is no button
    """
    known = task_of(key)
    if known is not None and known.state == "running":
        show(known.id)
        return known
    if known is not None and known.state == "failed":
        st.error(known.error, icon=":material/error:")
    elif known is not None and known.state == "cancelled":
        st.warning(cancelled, icon=":material/cancel:")
    kind: Any = "primary" if primary else "secondary"
    if (place or st).button(label, icon=icon, type=kind, key=f"start-{key}"):
        st.session_state.setdefault(TASKS, {})[key] = tasks.start(str(doing), doing, work)
        st.rerun()
    return known


def task_of(key: Hashable) -> tasks.Task | None:
    """The last task that was started for a key in this session, if it is still known."""
    return tasks.get(st.session_state.get(TASKS, {}).get(key))


def forget(key: Hashable) -> None:
    """Show nothing of the last task of a key any more."""
    st.session_state.get(TASKS, {}).pop(key, None)


def show(id: str | None, unit: str = "slices") -> tasks.Task | None:
    """Progress bar, seconds left and a Cancel button while the task runs; then the page is run again.

    Returns
    -------
    Task : once it has ended; None while it runs, and if there is none of that id
    """
    task = tasks.get(id)
    if task is None or task.state != "running":
        return task
    _watch(task.id, unit)
    return None


@st.fragment(run_every=0.5)
def _watch(id: str, unit: str) -> None:
    task = tasks.get(id)
    if task is None or task.state != "running":
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, task.done / task.total) if task.total else 0.0, text=progress_text(task, unit))
        waits = task.cancelling.is_set()
        st.button("Cancel", icon=":material/close:", key=f"cancel-{id}", disabled=waits, on_click=task.cancel)


def progress_text(task: tasks.Task, unit: str = "slices") -> str:
    """`Importing ct20: 3 of 12 cases, about 8 s left`."""
    if task.cancelling.is_set():
        return f"{task.label}: cancelling"
    text = task.label
    if task.total:
        text += f": {_count(task.done, task.total, task.unit or unit)}"
    if (left := task.seconds_left) is not None:
        text += f", about {duration(left, rough=True)} left"
    return text


def _count(done: int, total: int, unit: str) -> str:
    if unit == "bytes":
        return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
    return f"{done} of {total} {unit}".rstrip()
