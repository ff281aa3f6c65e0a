"""The table on the page: ticks choose runs; names, tags and notes are written in it.

Streamlit keeps all that was ever written in a table, by row and column, for as long as the table stays. So each look
does what is new among that before it reads the runs, and the table is another one as soon as its rows are others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.runs import Run
from covseg_core.runs.labels import edit_labels
from dashboard.app_pages.runs import run_table
from dashboard.app_pages.runs.rows import RunRow

CHOSEN = "runs_chosen"
"""In the session: ids of the runs that are ticked."""
_SHOWN = "runs_shown"
"""Key of the table, for each row its runs and its tags, and what is done already of what was written in it."""
_TURN = "runs_turn"
ROW, HEAD, MOST = 35, 38, 12
"""Pixels of a row and of the head; rows at most before the table scrolls."""


def do_what_was_written() -> None:
    """Ticks, names, tags and notes since the last look; called before the runs are read."""
    key, rows, tags, done = st.session_state.get(_SHOWN, ("", [], [], {}))
    written = _cells(st.session_state.get(key) if key else None)
    for cell, value in written.items():
        if cell in done and done[cell] == value:
            continue
        number, column = cell
        try:
            _do(rows[number], column, value, tags[number])
        except (CovsegError, OSError) as error:
            st.session_state.runs_trouble = str(error)
            # another table, or this one would go on to show what was refused
            st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1
        if column == run_table.TAGS:
            tags[number] = list(value or [])
    if key:
        st.session_state[_SHOWN] = key, rows, tags, written


def show(table: pd.DataFrame, groups: Sequence[Sequence[RunRow]], known_tags: Sequence[str]) -> None:
    """The table, of which each row stands for a group of runs."""
    ids = [[row.id for row in rows] for rows in groups]
    content = repr((list(table.columns), ids, st.session_state.get(_TURN, 0)))
    key = f"runs_table-{hashlib.sha1(content.encode()).hexdigest()[:16]}"
    before = st.session_state.get(_SHOWN)
    done = before[3] if before and before[0] == key else {}
    runs, tags = [[row.run for row in rows] for rows in groups], [run_table.common_tags(rows) for rows in groups]
    st.session_state[_SHOWN] = key, runs, tags, done
    st.data_editor(
        table,
        key=key,
        hide_index=True,
        placeholder="none",
        disabled=[name for name in table.columns if name not in run_table.EDITED],
        height=HEAD + ROW * min(max(1, len(table)), MOST),
        column_config=_columns(known_tags),
        alt="Runs or experiments, one a row",
    )


def chosen() -> set[str]:
    """Ids of the runs that are ticked."""
    return set(st.session_state.setdefault(CHOSEN, []))


def choose(ids: Sequence[str]) -> None:
    """Tick these runs and no others, in a table that begins anew."""
    st.session_state[CHOSEN] = list(ids)
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1


def _do(runs: Sequence[Run], column: str, value: Any, tags: Sequence[str]) -> None:
    if column == run_table.CHOSEN:
        ids = [run.id for run in runs]
        others = [id for id in st.session_state.get(CHOSEN, []) if id not in ids]
        st.session_state[CHOSEN] = [*others, *ids] if value else others
    elif column == run_table.NAME:
        edit_labels(runs, name=value or "")
    elif column == run_table.NOTE:
        edit_labels(runs, note=value or "")
    elif column == run_table.TAGS:
        # what was there before and is not any more was taken away; a tag of a single run of several stays
        wanted = value or []
        edit_labels(runs, add=wanted, remove=[tag for tag in tags if tag not in wanted])


def _cells(state: Any) -> dict[tuple[int, str], Any]:
    """(row, column) -> what was written there."""
    rows = dict(state or {}).get("edited_rows", {})
    return {(int(number), column): value for number, cells in rows.items() for column, value in cells.items()}


def _columns(known_tags: Sequence[str]) -> dict[str, Any]:
    config = st.column_config

    def score(help: str) -> Any:
        return config.NumberColumn(format="%.4f", width=105, help=help)

    test = "Over all voxels of the test part, threshold 0.5. Runs of different splits or datasets do not compare"
    validation = "Of the kept epoch, on the validation slices of the network's size"
    return {
        run_table.CHOSEN: config.CheckboxColumn("", help="Choose", width=40, pinned=True),
        run_table.NAME: config.TextColumn(width=160, help="Click twice to write", max_chars=100, pinned=True),
        run_table.TAGS: config.MultiselectColumn(options=known_tags, accept_new_options=True, color="auto", width=120),
        run_table.NOTE: config.TextColumn(width=150, max_chars=2000),
        "Run": config.TextColumn(width=220),
        "Experiment": config.TextColumn(width=220),
        run_table.TEST: score(test),
        run_table.VALIDATION: score(validation),
        f"Best {run_table.TEST}": score(test),
        f"Best {run_table.VALIDATION}": score(validation),
        "Epochs": config.ProgressColumn(format="percent", help="Share of the epochs that are done", width=100),
        "Training": config.NumberColumn(format="duration", help="Time spent training"),
        "Created": config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        "Learning rate": config.NumberColumn(format="%.3g"),
    }
