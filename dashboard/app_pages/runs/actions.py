"""What can be done with the chosen runs: curves, comparison, another training, export, deletion."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import streamlit as st

from covseg_core import runs
from covseg_core.errors import CovsegError
from covseg_core.evaluation.wording import plural
from dashboard import navigation
from dashboard.app_pages.runs import editor, export_files
from dashboard.app_pages.runs.rows import RunRow
from dashboard.services import model_catalog

_DELETE = "runs_delete"
"""In the session: ids of the runs about which the dialog asks."""
MOST = 8
"""Runs that it names."""


def show(chosen: Sequence[RunRow], shown: Sequence[RunRow]) -> None:
    """A line of links and buttons below the table."""
    own = [row for row in chosen if not row.listed.shipped]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plural(len(chosen), 'run')} chosen**" if chosen else "Tick runs to work with them.")
        if len(chosen) < len(shown):
            st.button(f"Choose all {len(shown)}", type="tertiary", on_click=editor.choose, args=(_ids(shown),))
        if chosen:
            st.button("Choose none", type="tertiary", on_click=editor.choose, args=([],))
        if own:
            navigation.link(navigation.MONITOR, query_params={"runs": ",".join(_ids(own))})
        if models := model_catalog.compared(_ids(own)):
            navigation.link(navigation.COMPARE, query_params={"runs": ",".join(models)})
        if len(chosen) == 1:
            navigation.link(navigation.TRAIN, "Train again with other settings", query_params={"again": chosen[0].id})
        if chosen:
            _export(chosen)
        if own and st.button("Delete", icon=":material/delete:", help="Asks first"):
            st.session_state[_DELETE] = _ids(own)
    _ask_before_deleting(own)


def _export(chosen: Sequence[RunRow]) -> None:
    """Files, made when they are asked for."""
    with st.popover("Export", icon=":material/download:"):
        for label, make, name, kind in (
            ("Table (CSV)", export_files.table_csv, "covseg-runs.csv", "text/csv"),
            ("TensorBoard (zip)", export_files.events_zip, "covseg-events.zip", "application/zip"),
        ):
            st.download_button(label, functools.partial(make, chosen), name, kind, on_click="ignore")
        st.caption("To MLflow: `covseg runs export RUN --mlflow ADDRESS`")


def _ids(rows: Sequence[RunRow]) -> list[str]:
    return [row.id for row in rows]


def _ask_before_deleting(own: Sequence[RunRow]) -> None:
    """The question, for as long as it is open; about what was chosen when it was asked."""
    asked = [row for row in own if row.id in st.session_state.get(_DELETE, [])]
    if not asked:
        _close()
        return

    @st.dialog(f"Delete {plural(len(asked), 'run')}?", icon=":material/delete:", on_dismiss=_close)
    def ask() -> None:
        named = [f"**{row.id}**" + (f" ({row.labels.name})" if row.labels.name else "") for row in asked]
        st.markdown(
            "\n".join(f"- {name}" for name in named[:MOST])
            + (f"\n- and {len(named) - MOST} more" * (len(named) > MOST))
        )
        st.write("Curves, weights, models and predictions are removed from the disk. This cannot be undone.")
        active = [row.id for row in asked if row.status.state in runs.ACTIVE]
        if active:
            st.error(f"Still active, so stop first: {', '.join(active[:MOST])}", icon=":material/block:")
        with st.container(horizontal=True, horizontal_alignment="right"):
            if st.button("Cancel", key="runs-delete-no"):
                _close()
                st.rerun()
            if st.button(
                "Delete", key="runs-delete-yes", type="primary", icon=":material/delete:", disabled=bool(active)
            ):
                _delete(asked)
                _close()
                st.rerun()

    ask()


def _delete(asked: Sequence[RunRow]) -> None:
    """All of them or none."""
    try:
        runs.delete_runs([row.run for row in asked])
    except (CovsegError, OSError) as error:
        st.session_state.runs_trouble = str(error)
        return
    st.session_state.runs_news = f"{plural(len(asked), 'run')} deleted."
    editor.choose([])


def _close() -> None:
    st.session_state.pop(_DELETE, None)
