"""The answer on the Compare page: which model is better, or that this cannot be said, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.significance.verdict import COMPARED, Verdict, cells, verdict
from covseg_core.figures import differences
from dashboard.app_pages.compare import score_table

MEASURE = "compare-verdict-measure"
ALONE = "Choose a second model above to compare this one with."


def show_sentences(comparison: Comparison) -> None:
    """By the first measure, without the numbers behind them."""
    if len(comparison.evaluations) < 2:
        st.caption(ALONE)
        return
    found = _verdict(comparison.key, COMPARED[0], comparison)
    st.markdown("\n".join(f"- {pair.sentence}" for pair in found.pairs))


def show(comparison: Comparison) -> None:
    """Sentences, a figure of the differences, and the numbers behind them."""
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.subheader("Which model is better?", width="content")
    if len(comparison.evaluations) < 2:
        st.caption(ALONE)
        return
    measure = head.selectbox(
        "Compared by",
        COMPARED,
        format_func=lambda name: MEASURES[name].label,
        key=MEASURE,
        width=260,
        help="One value a patient, of all evaluated slices together",
    )
    found = _verdict(comparison.key, measure, comparison)
    st.markdown("\n".join(f"- {pair.sentence}" for pair in found.pairs))
    if found.comparisons:
        names, label = wording.model_names(comparison), MEASURES[measure].label
        chart = differences.figure(found, names, label)
        st.plotly_chart(chart, key="compare-verdict-chart", config={"displaylogo": False})
        st.dataframe(
            table(found, names),
            hide_index=True,
            height="content",
            column_config={
                "Pair": st.column_config.TextColumn(pinned=True),
                **{name: st.column_config.TextColumn(alignment="right") for name in HEADS},
            },
        )
        st.caption(
            "Each ring is a patient; left of the line the second model of the pair is ahead. Mean and interval are "
            "coloured where one model is better."
        )
        with head.popover("How this was tested", icon=":material/info:"):
            st.markdown("\n".join(f"- {note}" for note in found.notes))


HEADS = ("Difference", "95 % interval", "Patients", "p", "Corrected p", "Patients needed")


def table(found: Verdict, names: Sequence[str]) -> pd.DataFrame:
    """A row a pair, as text."""
    by_letter = {name.partition(" · ")[0]: name for name in names}
    rows = [
        {
            "Pair": f"{by_letter[pair.first]} - {by_letter[pair.second]}",
            **{head: text or score_table.UNDEFINED for head, text in zip(HEADS, cells(pair), strict=True)},
        }
        for pair in found.pairs
    ]
    return pd.DataFrame(rows)


@st.cache_resource(max_entries=32, show_spinner=False)
def _verdict(key: object, measure: str, _comparison: Comparison) -> Verdict:
    return verdict(_comparison, measure)
