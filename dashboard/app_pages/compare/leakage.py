"""On the Compare page: by how much a split by slice raises the scores, where the same was trained with both splits."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.studies.leakage import Leakage, measure_leakage, stored_leakage
from covseg_core.figures import leakage as similarity
from dashboard.app_pages.compare import leakage_pairs
from dashboard.app_pages.compare.leakage_pairs import Pair
from dashboard.components import task_progress
from dashboard.services import model_catalog, tasks

OPEN, CHOICE = "compare-leakage", "compare-leakage-pair"
HOW = (
    "Leakage meter: train the same experiment with the other split as well, to see here by how much a split by slice "
    "raises the scores. `covseg train {} --metric all --split both` trains both."
)
READ = (
    "Dice and IoU are pooled over the test slices, with their 95 % interval by patient in brackets where there are "
    "enough patients. Similarity is the highest correlation of a test slice with any training slice, at 32 x 32 px; "
    "beyond the dotted line a slice counts as nearly known."
)
PAIRED = "Both splits test the same slices."
APART = "The two tests are not the same slices, so the gap is uncertain: folds of both splits would test everybody."


def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """A line on how to get it, or an expander."""
    pairs = {pair.id: pair for pair in leakage_pairs.pairs(model_catalog.finished_models(), chosen)}
    if not pairs:
        st.caption(HOW.format(chosen[0].config.dataset))
        return
    box = st.expander(
        "Leakage meter: what a split by slice adds", icon=":material/water_drop:", key=OPEN, on_change="rerun"
    )
    if not box.open:
        return
    with box:
        if st.session_state.get(CHOICE) not in pairs:
            st.session_state[CHOICE] = next(iter(pairs))
        if len(pairs) > 1:
            st.selectbox("Models", list(pairs), format_func=lambda id: pairs[id].label, key=CHOICE)
        pair = pairs[st.session_state[CHOICE]]
        found = _measured(pair)
        if found is not None:
            _show(found)


def _measured(pair: Pair) -> Leakage | None:
    """What is known; if nothing is, the way to it."""
    runs = pair.runs
    if (found := stored_leakage(*runs)) is not None:
        return found

    def work(progress: tasks.TaskProgress, cancelled: object) -> None:
        measure_leakage(*runs, progress)  # keeps it in a run's folder

    st.caption(f"{pair.label} differ in their split.")
    task_progress.task_button(
        ("leakage", pair.id),
        "Measure the leak",
        work,
        doing="Measuring the leak",
        cancelled="Measuring was cancelled; nothing was changed.",
        icon=":material/water_drop:",
    )
    return None


def _show(found: Leakage) -> None:
    gap = found.gaps["dice"]
    if gap.value is not None:
        way = "raises" if gap.value >= 0 else "lowers"
        edges = "" if gap.low is None or gap.high is None else f" ({gap.low:+z.3f} to {gap.high:+z.3f})"
        st.markdown(f"The split by slice {way} Dice by **{abs(gap.value):.3f}**{edges}.")
    for difference in found.differences:
        st.warning(f"Beside the split, {difference}", icon=":material/difference:")
    table = leakage_pairs.table(found)
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(table, hide_index=True, height="content", column_config=dict.fromkeys(leakage_pairs.SIDES, right))
    st.plotly_chart(similarity.figure(found), key="compare-leakage-chart", config={"displaylogo": False})
    st.caption(f"{READ} {PAIRED if found.paired else APART}")
