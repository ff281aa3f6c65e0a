"""A run on the page: a row with where it stands, why it ended, and the buttons stop, resume, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from covseg_core import runs
from covseg_core.errors import CovsegError
from covseg_core.runs import ACTIVE, RESUMABLE, Run, State, jobs
from dashboard.app_pages.monitor.run_progress import progress_text, score_text
from dashboard.services.model_catalog import ListedRun
from dashboard.services.run_history import LOG_LINES, Snapshot, log_tail

MANY, SCROLLING = 5, 480
"""More runs than this scroll within so many pixels, so that what follows stays in reach."""

BADGES: dict[State, tuple[str, str]] = {
    "queued": ("gray", "schedule"),
    "running": ("blue", "play_arrow"),
    "stopping": ("orange", "hourglass_top"),
    "stopped": ("orange", "stop_circle"),
    "finished": ("green", "check_circle"),
    "failed": ("red", "error"),
    "lost": ("red", "link_off"),
}


def show_runs(seen: Sequence[Snapshot], names: dict[str, str]) -> None:
    """A row a run, in a fragment that looks again by itself."""
    if trouble := st.session_state.get("monitor_trouble"):
        st.error(trouble, icon=":material/error:")
    show_buttons_for_all(seen)
    with st.container(border=True, height=SCROLLING if len(seen) > MANY else "content"):
        for item in seen:
            show_run(item, names[item.id])


def show_run(seen: Snapshot, name: str) -> None:
    """One row: name and state, progress, buttons; below it what went wrong, if something did."""
    status, done = seen.status, seen.epochs_done
    colour, icon = BADGES[status.state]
    left, middle, right = st.columns([4, 9, 3], vertical_alignment="center")
    badge = f":{colour}-badge[:material/{icon}: {status.state.capitalize()}]"
    left.markdown(f"**{name}** {badge}", help=f"Run {seen.id}")
    middle.progress(min(1.0, done / status.epochs) if status.epochs else 0.0, text=progress_text(seen))
    if details := " · ".join(filter(None, [score_text(seen), status.trains_on])):
        middle.caption(details)
    with right.container(horizontal=True, horizontal_alignment="right", gap="small"):
        show_buttons(seen)
    if status.state in ("failed", "lost"):
        show_trouble(seen)


def show_buttons(seen: Snapshot) -> None:
    state, id = seen.status.state, seen.id
    if state in ACTIVE:
        st.button(
            "Stop",
            key=f"stop-{id}",
            icon=":material/stop:",
            type="tertiary",
            help="Ends at the next batch, and can be resumed",
            disabled=state == "stopping",
            on_click=attempt,
            args=(jobs.stop, seen.run),
        )
        return
    if state in RESUMABLE:
        st.button(
            "Resume",
            key=f"resume-{id}",
            icon=":material/resume:",
            type="tertiary",
            help="Goes on from the last complete epoch",
            on_click=attempt,
            args=(jobs.resume, seen.run),
        )
    if st.button("Delete", key=f"delete-{id}", icon=":material/delete:", type="tertiary", help="Asks first"):
        # the question belongs to the page: in here the next look would close it
        st.session_state.monitor_delete = id
        st.rerun()


def show_buttons_for_all(seen: Sequence[Snapshot]) -> None:
    """Where there are several: fifteen runs of a cross-validation are stopped by one click."""
    # the youngest first, or those that wait would start in turn
    active = [item.run for item in seen if item.status.state in ("queued", "running")][::-1]
    ended = [item.run for item in seen if item.status.state in RESUMABLE]
    with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        for label, icon, action, chosen in (
            ("Stop all", "stop", jobs.stop, active),
            ("Resume all", "resume", jobs.resume, ended),
        ):
            if len(chosen) > 1:
                st.button(
                    f"{label} {len(chosen)}",
                    key=f"{icon}-all",
                    icon=f":material/{icon}:",
                    type="tertiary",
                    on_click=attempt_all,
                    args=(action, chosen),
                )


def show_trouble(seen: Snapshot) -> None:
    status = seen.status
    if status.state == "failed":
        st.error(status.reason or "It failed without a reason.", icon=":material/error:")
    else:
        st.warning(
            f"{status.reason.capitalize()}. Resume goes on from the last complete epoch.", icon=":material/link_off:"
        )
    with st.expander(f"Last {LOG_LINES} lines of worker.log", icon=":material/article:"):
        st.code(log_tail(seen.run.log) or "The log is empty.", language=None)


def attempt(action: Callable[[Run], None], run: Run) -> None:
    """Do it, or keep what went wrong for the page to show."""
    st.session_state.monitor_trouble = None
    try:
        action(run)
    except (CovsegError, OSError) as error:
        st.session_state.monitor_trouble = str(error)


def attempt_all(action: Callable[[Run], None], chosen: Sequence[Run]) -> None:
    """Do it to each, and keep the first thing that went wrong."""
    troubles = []
    for run in chosen:
        attempt(action, run)
        troubles.append(st.session_state.monitor_trouble)
    st.session_state.monitor_trouble = next(filter(None, troubles), None)


def ask_before_deleting(known: Sequence[ListedRun]) -> None:
    """The question, for as long as it is open; called by the page, outside of fragments."""
    id = st.session_state.get("monitor_delete")
    found = next((item for item in known if item.id == id), None)
    if found is None:
        st.session_state.monitor_delete = None
        return

    @st.dialog("Delete this run?", icon=":material/delete:", on_dismiss=_close)
    def ask() -> None:
        st.markdown(f"**{found.id}**")
        st.write("Its curves, weights, model and predictions are removed from the disk. This cannot be undone.")
        with st.container(horizontal=True, horizontal_alignment="right"):
            if st.button("Cancel", key="delete-no"):
                _close()
                st.rerun()
            if st.button("Delete", key="delete-yes", type="primary", icon=":material/delete:"):
                attempt(runs.delete_run, found.run)
                _close()
                st.rerun()

    ask()


def _close() -> None:
    st.session_state.monitor_delete = None
