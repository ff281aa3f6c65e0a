"""The pair of figures on the page, how it is looked at, and the zoom that no refresh undoes.

Streamlit makes a new Plotly figure of every new point, and with it forgets the zoom of the old one. So the zoom is the
page's: a box that somebody draws is reported as a selection, kept as the ranges of the axes, and drawn from then on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import streamlit as st

from covseg_core.config import METRICS, THESIS
from covseg_core.figures import learning_curves as charts
from covseg_core.runs import ACTIVE
from dashboard.services import run_history
from dashboard.services.run_history import Snapshot

SCORES: dict[charts.Score, str] = {"own": "Own metric", **{name: METRICS[name].label for name in THESIS}}
AXES: dict[charts.Axis, str] = {"epoch": "Epoch", "time": "Time"}
HOLD = 5.0
"""Seconds a figure stays as it is though epochs end: a new one would take the mouse from somebody who draws a box."""
MODE_BAR = {"modeBarButtonsToRemove": ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]}
"""Without what the next refresh would undo."""


def choose_view() -> None:
    """Widgets outside of the fragment: nothing that refreshes touches them."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Score",
            list(SCORES),
            format_func=SCORES.__getitem__,
            default="dice",
            key="monitor_score",
            persist_state="session",
            required=True,
            help="On the validation slices. Scores of different metrics cannot be compared with each other.",
        )
        st.segmented_control(
            "X axis",
            list(AXES),
            format_func=AXES.__getitem__,
            default="epoch",
            key="monitor_axis",
            persist_state="session",
            required=True,
        )
        st.slider("Smoothing", 0.0, 0.95, 0.0, 0.05, key="monitor_smoothing", persist_state="session", width=200)
        st.toggle("Logarithmic loss", key="monitor_log", persist_state="session", width="content")


def view() -> charts.View:
    kept = st.session_state
    return charts.View(
        kept.monitor_score, kept.monitor_axis, kept.monitor_smoothing, kept.monitor_log, kept.get("monitor_zoom", {})
    )


def show(seen: Sequence[Snapshot], names: dict[str, str]) -> None:
    """The figures, in a fragment that looks again by itself."""
    slots, lengths = st.session_state.monitor_slots, drawn_lengths(seen)
    curves = [
        charts.Curve(names[item.id], item.config.metric, cut(item.history, lengths[item.id]), slots[item.id])
        for item in seen
    ]
    if not any(lengths.values()):
        st.info("The first point of each curve appears when its first epoch ends.", icon=":material/hourglass_top:")
        return
    now = view()
    key = f"monitor_curves-{hashlib.sha1(repr((lengths, slots, now)).encode()).hexdigest()[:16]}"
    st.plotly_chart(
        charts.draw(curves, now),
        # of this very figure: a box that was drawn in the one before it still finds its scales
        key=key,
        on_select=zoom(key, charts.frame(curves, now)),
        selection_mode="box",
        config=MODE_BAR,
        alt="Loss and score of the selected runs, training and validation",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        hint = "Draw a box in a figure to zoom in."
        if groups := charts.alike(curves):
            same = "; ".join(" and ".join(names) for names in groups)
            hint += f" Some curves hide others: {same} have the same loss and seed and have learned the same."
        st.caption(hint, width="stretch")
        if now.zoom:
            st.button("Show everything", icon=":material/zoom_out_map:", on_click=show_everything)


def show_everything() -> None:
    st.session_state.monitor_zoom = {}


def zoom(key: str, frame: charts.Frame) -> Callable[[], None]:
    """What to do when a box is drawn. Streamlit keeps this for as long as the browser stays: no curves in here."""

    def drawn() -> None:
        for box in st.session_state[key].selection.box[-1:]:
            st.session_state.monitor_zoom = charts.zoomed(frame, box)

    return drawn


def drawn_lengths(seen: Sequence[Snapshot]) -> dict[str, int]:
    """Epochs to draw of each run: those there are, or for a few seconds those that were drawn last."""
    there = {item.id: item.epochs_done for item in seen}
    since, before = st.session_state.get("monitor_drawn", (0.0, {}))
    grown = before.keys() == there.keys() and all(0 < before[id] <= there[id] or not there[id] for id in there)
    learning = any(item.status.state in ACTIVE for item in seen)
    if grown and learning and time.monotonic() - since < HOLD:
        return before
    if before != there:
        st.session_state.monitor_drawn = (time.monotonic(), there)
    return there


def cut(history: run_history.Columns, length: int) -> run_history.Columns:
    return {name: column[:length] for name, column in history.items()}
