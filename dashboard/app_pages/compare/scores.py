"""One yardstick on the Compare page: every model and baseline with every measure, under the policy that is chosen."""

from __future__ import annotations

import streamlit as st

from covseg_core.evaluation.results import Comparison
from dashboard.app_pages.compare import empty_policy, score_table


def show(comparison: Comparison) -> None:
    """Draw it, with the best model of each row in bold."""
    st.subheader("Every model, every metric, the same test slices")
    names = score_table.level_names(comparison)
    level = st.segmented_control(
        "Scores taken together",
        list(names),
        default="pooled",
        format_func=names.__getitem__,
        required=True,
        key="compare-level",
        persist_state="session",
    )
    table = score_table.score_table(comparison, level)
    widths = score_table.widths(table)
    columns = {name: st.column_config.TextColumn(alignment="right", width=widths[name]) for name in table.columns[3:]}
    columns["Measure"] = st.column_config.TextColumn(pinned=True)
    columns["Best"] = st.column_config.TextColumn(width=widths["Best"])
    columns["n"] = st.column_config.NumberColumn(width=50)
    st.dataframe(
        score_table.in_bold(table, comparison, level), hide_index=True, height="content", column_config=columns
    )
    st.caption("\n".join(f"- {sentence}" for sentence in score_table.legend(comparison, level)))
    empty_policy.show_change(comparison)
