"""One yardstick on the Compare page: every model and baseline with every measure, under the policy that is chosen."""

from __future__ import annotations

import policy_panel
import scoretable
import streamlit as st

from covseg_core.evaluation.result import Comparison


def show(comparison: Comparison) -> Comparison:
    """Draw it; the comparison under the policy for empty masks, which all that comes below follows, too."""
    st.subheader("Every model, every metric, the same test slices")
    names = scoretable.level_names(comparison)
    with st.container(horizontal=True):
        level = st.segmented_control(
            "Scores taken together", list(names), default="pooled", format_func=names.__getitem__, required=True
        )
        comparison = policy_panel.choose(comparison)
    table = scoretable.score_table(comparison, level)
    widths = scoretable.widths(table)
    columns = {name: st.column_config.TextColumn(alignment="right", width=widths[name]) for name in table.columns[3:]}
    columns["Measure"] = st.column_config.TextColumn(pinned=True)
    columns["Best"] = st.column_config.TextColumn(width=widths["Best"])
    columns["n"] = st.column_config.NumberColumn(width=50)
    st.dataframe(table, hide_index=True, height="content", column_config=columns)
    st.caption("\n".join(f"- {sentence}" for sentence in scoretable.legend(comparison, level)))
    policy_panel.show_change(comparison)
    return comparison
