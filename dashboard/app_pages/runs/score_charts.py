"""Settings of the chosen runs against their score."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.config import METRICS
from covseg_core.figures import settings as charts
from covseg_core.figures.settings import Point
from covseg_core.runs.setting_values import differing, label, setting_values
from dashboard.app_pages.runs import run_table
from dashboard.app_pages.runs.rows import RunRow

SCORES = (run_table.TEST, run_table.VALIDATION)
MOST = 10
"""Axes of the parallel lines: more cannot be read."""


def show(chosen: Sequence[RunRow]) -> None:
    """Opened by a click; for two runs and more."""
    if len(chosen) < 2:
        return
    panel = st.expander("Settings against score", icon=":material/scatter_plot:", key="runs_charts", on_change="rerun")
    if panel.open:
        with panel:
            _draw(chosen)


def _draw(chosen: Sequence[RunRow]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        score = st.segmented_control("Score", SCORES, default=SCORES[0], required=True, key="runs_score")
        found = points(chosen, score)
        settings = axes(found)
        setting = st.selectbox("Setting", settings, key="runs_setting", width=240) if settings else None
    if len(found) < 2:
        st.info(f"Fewer than two of the chosen runs have a {score}.", icon=":material/info:")
        return
    if without := len(chosen) - len(found):
        st.caption(f"{without} of the chosen runs have no {score} and are left out.")
    if setting is None:
        st.info("The chosen runs have the same settings.", icon=":material/info:")
        return
    if score == run_table.TEST and len({(row.config.fingerprint, row.config.split) for row in chosen}) > 1:
        st.caption("Some of these runs were tested on other slices: a difference of score may be one of patients.")
    config = {"displaylogo": False}
    st.plotly_chart(
        charts.scatter(found, setting, score),
        key="runs_scatter",
        config=config,
        alt=f"{score} of each run by {setting}",
    )
    if len(settings) > 1:
        names = settings[:MOST]
        st.plotly_chart(
            charts.parallel(found, names, score),
            key="runs_parallel",
            config=config,
            alt=f"{score} of each run by {', '.join(names)}",
        )
        st.caption("A line a run, the brighter the higher its score. Point at it to see which.")


def points(chosen: Sequence[RunRow], score: str) -> list[Point]:
    """Runs that have the score, with all of their settings that differ."""
    rows = [row for row in chosen if _score(row, score) is not None]
    names = differing([row.config for row in rows])
    found = []
    for row in rows:
        config, values = row.config, setting_values(row.config)
        metric = METRICS[config.metric].label
        own = {"Metric": metric, "Dataset": config.dataset, **{label(name): values.get(name, "none") for name in names}}
        found.append(Point(row.labels.name or row.id, metric, own, _score(row, score) or 0.0))
    return found


def axes(found: Sequence[Point]) -> list[str]:
    """Settings in which the points differ, metric and dataset last."""
    names = [name for name in (found[0].values if found else ()) if len({point.values[name] for point in found}) > 1]
    return sorted(names, key=("Metric", "Dataset").__contains__)


def _score(row: RunRow, score: str) -> float | None:
    return row.test if score == run_table.TEST else row.validation
