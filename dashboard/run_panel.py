"""A run on the page: where it stands, how long it still takes, why it ended, and the buttons stop, resume, delete."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import streamlit as st
from histories import Known, Seen

from covseg_core import jobs, runs
from covseg_core.errors import CovsegError
from covseg_core.evaluation.tables import METRIC_NAMES
from covseg_core.runs import ACTIVE, RESUMABLE, Run, State

LOG_LINES = 30
RECENT = 5
"""Epochs from which the time left is told."""
MANY, SCROLLING = 8, 560
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


def show_runs(seen: Sequence[Seen], names: dict[str, str]) -> None:
    """A row a run, in a fragment that looks again by itself."""
    if trouble := st.session_state.get("monitor_trouble"):
        st.error(trouble, icon=":material/error:")
    show_buttons_for_all(seen)
    with st.container(border=True, height=SCROLLING if len(seen) > MANY else "content"):
        for item in seen:
            show_run(item, names[item.id])


def show_run(seen: Seen, name: str) -> None:
    """One row: name and state, progress, buttons; below it what went wrong, if something did."""
    status, done = seen.status, seen.epochs_done
    colour, icon = BADGES[status.state]
    left, middle, right = st.columns([4, 5, 3], vertical_alignment="center")
    badge = f":{colour}-badge[:material/{icon}: {status.state.capitalize()}]"
    left.markdown(f"**{name}** {badge}", help=f"Run {seen.id}")
    middle.progress(min(1.0, done / status.epochs) if status.epochs else 0.0, text=progress_text(seen))
    if status.device:
        middle.caption(status.device)
    with right.container(horizontal=True, horizontal_alignment="right", gap="small"):
        show_buttons(seen)
    if status.state in ("failed", "lost"):
        show_trouble(seen)


def show_buttons(seen: Seen) -> None:
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


def show_buttons_for_all(seen: Sequence[Seen]) -> None:
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


def show_trouble(seen: Seen) -> None:
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


def ask_before_deleting(known: Sequence[Known]) -> None:
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


def progress_text(seen: Seen) -> str:
    """Epoch n of N, and what follows from it."""
    status, done = seen.status, seen.epochs_done
    parts = [f"Epoch {done} of {status.epochs}"]
    if status.state in ACTIVE:
        if left := time_left(seen):
            parts.append(f"about {duration(left, rough=True)} left")
        parts.append(status.reason)
    elif done:
        parts.append(f"{duration(float(seen.history['total_seconds'][-1]))} of training")
        if status.state == "stopped":
            parts.append(status.reason)
    return " · ".join(filter(None, parts))


def time_left(seen: Seen) -> float | None:
    """Seconds until the last epoch ends, from the mean of the last few; None if nothing is known yet.

    Early stopping may end it sooner. The first epoch, which loads and compiles, counts only while it is the only one.
    """
    done, status = seen.epochs_done, seen.status
    if status.state != "running" or not done:
        return None
    recent = seen.history["seconds"][min(1, done - 1) :][-RECENT:]
    of_this_one = status.step / status.steps if status.steps and status.epoch == done else 0.0
    return max(0.0, float(np.mean(recent)) * (status.epochs - done - of_this_one)) or None


def duration(seconds: float, rough: bool = False) -> str:
    """A time as somebody would say it.

    >>> duration(42.4), duration(200), duration(3 * 3600 + 300)
    ('42 s', '3 min 20 s', '3 h 05 min')
    >>> duration(42.4, rough=True), duration(200, rough=True)
    ('40 s', '3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{max(10, round(whole, -1)) if rough else whole} s"
    if whole < 600 and not rough:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def names(known: Sequence[Known], timezone: str | None) -> dict[str, str]:
    """A short name for each run: its metric, and what else tells it from the others.

    Within one experiment metric and fold are enough; where nothing else helps, the id is the name.
    """
    zone = _zone(timezone)
    several_datasets = len({item.config.dataset for item in known}) > 1
    several_kinds = len({item.config.split.kind for item in known}) > 1
    several_experiments = len({item.config.experiment for item in known}) > 1
    found = {}
    for item in known:
        parts = [METRIC_NAMES[item.config.metric]]
        if several_kinds:
            parts.append(f"by {item.config.split.kind}")
        if item.config.split.folds:
            parts.append(f"fold {item.config.split.fold}")
        if several_datasets:
            parts.append(item.config.dataset)
        if several_experiments:
            parts.append(_when(item.config.created, zone))
        found[item.id] = " · ".join(filter(None, parts))
    counts = Counter(found.values())
    return {id: name if counts[name] == 1 else id for id, name in found.items()}


def log_tail(path: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log, of which only the end is read."""
    try:
        with open(path, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 32 * 1024))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _zone(name: str | None) -> tzinfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _when(iso: str, zone: tzinfo | None) -> str:
    try:
        return f"{datetime.fromisoformat(iso).astimezone(zone):%-d %b, %H:%M}"
    except ValueError:
        return ""
