"""The preview slices on the page: which run, a slider over the epochs, and play."""

from __future__ import annotations

import previews
import streamlit as st
from histories import Known

from covseg_core.errors import CovsegError
from covseg_core.runs import ACTIVE, read_status

LOOK = 2.0
FRAME = 0.5
"""Seconds an epoch is shown while playing."""
FEW = 4
FRAMES = 40
"""A long run plays in larger steps."""


def show(selected: list[Known], names: dict[str, str]) -> None:
    """Of one of the selected runs."""
    ids = [item.id for item in selected]
    if st.session_state.get("preview_run") not in ids:
        st.session_state.preview_run = ids[0]
    if len(ids) > FEW:
        st.selectbox("Run", ids, format_func=names.__getitem__, key="preview_run")
    elif len(ids) > 1:
        st.segmented_control("Run", ids, format_func=names.__getitem__, key="preview_run", required=True)
    chosen = next(item for item in selected if item.id == st.session_state.preview_run)
    status = read_status(chosen.run)
    active = status is not None and status.state in ACTIVE
    playing = st.session_state.get("preview_playing", False)
    st.fragment(show_epoch, run_every=FRAME if playing else LOOK if active else None)(chosen, active)


def show_epoch(known: Known, active: bool) -> None:
    run = known.run
    epochs = previews.epochs(run)
    if not epochs:
        st.caption("The first predictions appear when the first epoch ends.")
        return
    epoch = choose_epoch(known, epochs, active)
    try:
        shown = previews.pictures(run, epoch)
    except CovsegError as error:
        st.warning(str(error), icon=":material/warning:")
        return
    for column, (picture, caption) in zip(st.columns(max(4, len(shown))), shown, strict=False):
        column.image(picture, caption=caption, width="stretch")
    legend()


def choose_epoch(known: Known, epochs: list[int], active: bool) -> int:
    """The slider; it follows the newest epoch until somebody moves it, and again from its right end."""
    newest = epochs[-1]
    # while it trains the slider ends at the last epoch planned, so that it stays the same widget
    last = max(newest, known.config.train.epochs) if active else newest
    if last == 1:
        return 1
    key = f"preview_epoch-{known.id}"
    wanted = next_epoch(key, newest)
    if st.session_state.get(key) != wanted:
        st.session_state[key] = wanted
    button, slider = st.columns([1, 11], vertical_alignment="bottom")
    playing = st.session_state.get("preview_playing", False)
    label, icon = ("Pause", ":material/pause:") if playing else ("Play", ":material/play_arrow:")
    if button.button("", icon=icon, help=label, key="preview_play"):
        st.session_state.preview_playing = not playing
        if not playing and wanted >= newest:
            st.session_state[f"{key}-at"] = 1
        st.rerun()

    def moved() -> None:
        value = st.session_state[key]
        st.session_state[f"{key}-at"] = None if value >= newest else value
        st.session_state.preview_playing = False

    slider.slider("Epoch", 1, last, key=key, on_change=moved)
    return max(epoch for epoch in epochs if epoch <= max(wanted, epochs[0]))


def next_epoch(key: str, newest: int) -> int:
    """The epoch to show now: one further while playing, else where it was put, else the newest."""
    at = st.session_state.get(f"{key}-at")
    if st.session_state.get("preview_playing") and at is not None:
        at += max(1, newest // FRAMES)
        if at >= newest:
            st.session_state.preview_playing, at = False, None
        st.session_state[f"{key}-at"] = at
    return newest if at is None else min(at, newest)


def legend() -> None:
    st.caption(
        "White line: true mask. Blue: found. Orange: missed. Yellow: found where there is none. "
        "Validation slices, threshold 0.5."
    )
