"""The trainings at work and those that wait: what they take of this machine, their logs, and whose turn it is.

Whose turn it is on a cluster is its own affair: there a run that waits only says why.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.places import LOCAL
from covseg_core.runs import Run, Status, jobs, turns
from covseg_core.runs.usage import Usage, usage
from dashboard.formatting import plain
from dashboard.services import model_catalog
from dashboard.services.run_history import LOG_LINES, log_tail

LOOK = 2.0
"""Seconds between two looks while something trains or waits."""
HEIGHT, SCROLLING, MANY = 240, 300, 6
"""Pixels of a log, and of the list of runs that wait if it is longer than so many."""


def show() -> None:
    """Nothing where nothing trains or waits; looks again by itself."""
    if model_catalog.active_runs():
        st.subheader("Queue")
        st.fragment(_look, run_every=LOOK)()


def _look() -> None:
    active = model_catalog.active_runs()
    if not active:
        st.rerun()
    if trouble := st.session_state.get("runs_queue_trouble"):
        st.error(trouble, icon=":material/error:")
    for run, status in active:
        if status.state != "queued" or run.placed.kind != LOCAL:
            _show_at_work(run, status)
    waiting = turns.waiting()
    with st.container(height=SCROLLING if len(waiting) > MANY else "content", border=bool(waiting)):
        for number, one in enumerate(waiting, start=1):
            _show_waiting(one, number)


def _show_at_work(run: Run, status: Status) -> None:
    """What it takes, and on request the end of its log."""
    with st.container(border=True):
        left, right = st.columns([7, 2], vertical_alignment="center")
        of = f"epoch {status.epoch} of {status.epochs}"
        left.markdown(f"**{plain(run.id)}** {status.state}, {of}" + (f", {plain(status.reason)}" * bool(status.reason)))
        taken = usage(status)
        if status.state != "queued":
            elsewhere = f"Trains on {plain(status.host)}; what it takes is seen there alone."
            left.caption(words(taken) if taken else elsewhere)
        with right.container(horizontal=True, horizontal_alignment="right"):
            _button(
                "Stop", "stop", "Ends at the next batch, and can be resumed", jobs.stop, run, status.state == "stopping"
            )
        if st.toggle(f"Log, last {LOG_LINES} lines", key=f"runs_log-{run.id}"):
            st.code(log_tail(run.log) or "The log is empty.", language=None, height=HEIGHT)


def _show_waiting(one: turns.Waiting, number: int) -> None:
    left, right = st.columns([5, 4], vertical_alignment="center")
    left.markdown(f"{number}. {plain(one.run.id)}" + " :orange-badge[:material/pause: Paused]" * one.turn.paused)
    with right.container(horizontal=True, horizontal_alignment="right", gap="small"):
        _button("Move up", "arrow_upward", "Before the one above", turns.move_up, one.run, number == 1)
        if one.turn.paused:
            _button("Go on", "play_arrow", "It has its turn again", _go_on, one.run)
        else:
            _button("Pause", "pause", "The others go first until you say so", turns.pause, one.run)
        _button("Stop", "stop", "Leaves the queue, and can be resumed", jobs.stop, one.run)


def words(taken: Usage) -> str:
    """`CPU 1.8 cores · memory 1.2 GB · GPU 0 97 %, 10.3 of 80.0 GB`."""
    gpus = [
        f"GPU {gpu.number} {gpu.load:.0%}, {gpu.memory / 1e9:.1f} of {gpu.memory_total / 1e9:.1f} GB"
        for gpu in taken.gpus
    ]
    return " · ".join([f"CPU {taken.cores:.1f} cores", f"memory {taken.memory / 1e9:.1f} GB", *gpus])


def _go_on(run: Run) -> None:
    turns.pause(run, False)


def _button(label: str, icon: str, help: str, action: Callable[[Run], None], run: Run, disabled: bool = False) -> None:
    key = f"runs_{icon}-{run.id}"
    st.button(
        label,
        key=key,
        icon=f":material/{icon}:",
        type="tertiary",
        help=help,
        disabled=disabled,
        on_click=_attempt,
        args=(action, run),
    )


def _attempt(action: Callable[[Run], None], run: Run) -> None:
    """Do it, or keep what went wrong for the page to show."""
    st.session_state.runs_queue_trouble = None
    try:
        action(run)
    except (CovsegError, OSError) as error:
        st.session_state.runs_queue_trouble = str(error)
