"""Which of the runs the table shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from dashboard.app_pages.runs.rows import RunRow

View = Literal["Runs", "Experiments"]
VIEWS: tuple[View, ...] = ("Runs", "Experiments")


@dataclass(frozen=True)
class Filter:
    """What is looked for; empty lists leave all."""

    view: View
    words: tuple[str, ...]
    """All of them occur in name, note, tags, id, dataset, metric or preset."""
    tags: tuple[str, ...]
    states: tuple[str, ...]
    datasets: tuple[str, ...]
    shipped: bool

    def of(self, rows: Sequence[RunRow]) -> list[RunRow]:
        return [row for row in rows if self._fits(row)]

    def _fits(self, row: RunRow) -> bool:
        return (
            all(word in row.text for word in self.words)
            and set(self.tags) <= set(row.labels.tags)
            and (not self.states or row.status.state in self.states)
            and (not self.datasets or row.config.dataset in self.datasets)
            and (self.shipped or not row.listed.shipped)
        )


def choose(rows: Sequence[RunRow]) -> Filter:
    """Widgets, of which those with nothing to choose from are left out; they stay as they are for the session."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control(
            "Rows", VIEWS, default="Runs", required=True, key="runs_view", persist_state="session"
        )
        words = st.text_input(
            "Search",
            key="runs_search",
            persist_state="session",
            placeholder="Name, note, tag, dataset, metric",
            width=260,
        )
        tags = _several("Tags", known_tags(rows), least=1)
        states = _several("States", list(dict.fromkeys(row.status.state for row in rows)))
        datasets = _several("Datasets", sorted({row.config.dataset for row in rows}))
        shipped = st.toggle("Shipped models", True, key="runs_shipped", persist_state="session", width="content")
    return Filter(view, tuple(words.lower().split()), tags, states, datasets, shipped)


def known_tags(rows: Sequence[RunRow]) -> list[str]:
    return sorted({tag for row in rows for tag in row.labels.tags})


def _several(label: str, options: list[str], least: int = 2) -> tuple[str, ...]:
    if len(options) < least:
        return ()
    key = f"runs_{label.lower()}"
    if gone := set(st.session_state.get(key, [])) - set(options):
        st.session_state[key] = [one for one in st.session_state[key] if one not in gone]
    found = st.multiselect(label, options, key=key, persist_state="session", placeholder="All", width=200)
    return tuple(found)
