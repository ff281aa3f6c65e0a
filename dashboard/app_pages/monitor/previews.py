"""The preview slices on the page: which run, a slider over the epochs, and play."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.runs import ACTIVE, read_status
from covseg_core.runs.previews import preview_epochs
from dashboard.app_pages.monitor import preview_images
from dashboard.services.model_catalog import ListedRun

LOOK = 2.0
"""Seconds between two looks at a run that trains."""
FRAME = 0.5
"""Seconds an epoch is shown while playing."""
FEW = 4
"""Runs to choose from side by side; more go into a list."""
FRAMES = 40
"""A long run plays in larger steps."""
TURNS = 10
"""Sliders that take turns; Streamlit remembers each for as long as the browser stays."""


def show(selected: list[ListedRun], names: dict[str, str]) -> None:
    """Of one of the selected runs."""
    ids = [item.id for item in selected]
    if st.session_state.get("preview_run") not in ids:
        st.session_state.preview_run = next((item.id for item in selected if _state(item) == "running"), ids[0])
    if len(ids) > FEW:
        st.selectbox("Run", ids, format_func=names.__getitem__, key="preview_run")
    elif len(ids) > 1:
        st.segmented_control("Run", ids, format_func=names.__getitem__, key="preview_run", required=True)
    chosen = next(item for item in selected if item.id == st.session_state.preview_run)
    active = _state(chosen) in ACTIVE
    pace = FRAME if playing() else LOOK if active else None
    st.fragment(show_epoch, run_every=pace)(chosen, active, playing())


def _state(known: ListedRun) -> str:
    status = read_status(known.run)
    return status.state if status else ""


def show_epoch(known: ListedRun, active: bool, was_playing: bool) -> None:
    """Slider, pictures, legend; looks again by itself."""
    run = known.run
    epochs = preview_epochs(run)
    if not epochs:
        st.caption("The first predictions appear when the first epoch ends.")
        return
    epoch = choose_epoch(known, epochs, active)
    if was_playing and not playing():
        st.rerun()  # at another pace from now on
    try:
        shown = preview_images.pictures(run, epoch)
    except CovsegError as error:
        st.warning(str(error), icon=":material/warning:")
        return
    for column, (picture, caption) in zip(st.columns(max(4, len(shown))), shown, strict=False):
        column.image(picture, caption=caption, width="stretch", alt=caption)
    legend()


def choose_epoch(known: ListedRun, epochs: list[int], active: bool) -> int:
    """The slider; it follows the newest epoch until somebody moves it, and again from its right end.

    Where the page moves it, it is a new widget each time, and what the browser says late about an old one is no move.
    """
    newest = epochs[-1]
    # while it trains the slider ends at the last epoch planned, so that it stays where it is when one more is there
    last = max(newest, known.config.train.epochs) if active else newest
    place = st.session_state.setdefault("preview_places", {}).setdefault(known.id, Place())
    advance(place, newest)
    if last == 1:
        return newest
    turn = place.turn
    key = f"preview_epoch-{known.id}-{turn}"

    def moved() -> None:
        value = st.session_state[key]
        if value != place.told.get(turn):
            place.told[turn] = place.shown = value
            place.follows = value >= newest
            st.session_state.preview_playing = False

    with st.container(horizontal=True, vertical_alignment="bottom"):
        play_button(place, newest)
        st.slider("Epoch", 1, last, min(place.shown, last), key=key, on_change=moved)
    return max((epoch for epoch in epochs if epoch <= place.shown), default=epochs[0])


@dataclass
class Place:
    """Where a run's slider stands."""

    shown: int = 0
    follows: bool = True
    turn: int = 0
    """Which slider it is now: another one each time that the page moves it."""
    told: dict[int, int] = field(default_factory=dict)
    """What each slider was last known to say."""


def advance(place: Place, newest: int) -> None:
    """To the newest epoch, or one further while playing."""
    wanted = newest if place.follows else min(place.shown, newest)
    if playing():
        wanted = place.shown + max(1, newest // FRAMES)
        if wanted >= newest:
            st.session_state.preview_playing, place.follows, wanted = False, True, newest
    if wanted != place.shown:
        place.shown, place.turn = wanted, (place.turn + 1) % TURNS
        place.told[place.turn] = wanted


def play_button(place: Place, newest: int) -> None:
    """From the start if it stands at the end, else from where it stands."""
    label, icon = ("Pause", ":material/pause:") if playing() else ("Play", ":material/play_arrow:")
    if not st.button(label, icon=icon, key="preview_play"):
        return
    st.session_state.preview_playing = not playing()
    if playing() and place.shown >= newest:
        place.shown = 0
    place.follows = False
    st.rerun()


def playing() -> bool:
    return st.session_state.get("preview_playing", False)


def legend() -> None:
    st.caption(
        "White line: true mask. Blue: found. Orange: missed. Yellow: false alarm. Validation slices, threshold 0.5."
    )
