"""On the Compare page: what Dice to expect where there is no true mask, for models with enough seeds."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation.expected_quality import FEWEST_MEMBERS, ensembles_of, measure_quality, wording
from covseg_core.evaluation.expected_quality.risk_coverage import RiskCoverage, risk_coverage
from covseg_core.evaluation.model import Model
from covseg_core.figures.risk_coverage import risk_coverage_figure
from covseg_core.prediction.expected_dice import Quality, changed_since, stored_quality
from dashboard.components import task_progress
from dashboard.formatting import plain, sentence
from dashboard.services import model_catalog, tasks

OPEN, CHOICE = "compare-quality", "compare-quality-model"
READ = (
    "Scans that no member was trained on go to review in the order of what is expected of each without its own "
    "patient, the lowest first. Above the dashed line, the order is better than chance."
)


def show(chosen: Sequence[Model]) -> None:
    """An expander, if one of the models has enough seeds."""
    models = {model.id: model for model in chosen if len(model.seeds) >= FEWEST_MEMBERS}
    if not models:
        return
    box = st.expander("Expected Dice of new scans", icon=":material/grade:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        if st.session_state.get(CHOICE) not in models:
            st.session_state[CHOICE] = next(iter(models))
        if len(models) > 1:
            st.selectbox("Ensemble", list(models), format_func=lambda id: model_catalog.label(models[id]), key=CHOICE)
        model = models[st.session_state[CHOICE]]
        found = stored_quality(ensembles_of(model)[0])
        changed = changed_since(found, model.runs) if found else ""
        if found and not changed:
            _show(found)
        else:
            _ask(model, changed)


def _ask(model: Model, changed: str) -> None:
    def work(progress: tasks.TaskProgress, cancelled: object) -> None:
        measure_quality(ensembles_of(model), progress=progress)  # keeps it in the runs' folders

    st.markdown(
        "How far the seeds agree on a scan can tell how good their mask is. What agreement means is measured on scans "
        "that none of them was trained on; Quick prediction with all seeds then says which Dice to expect."
    )
    if changed:
        st.caption(sentence(changed))
    task_progress.task_button(
        ("quality", model.id),
        "Measure what agreement means",
        work,
        doing="Predicting scans with known masks",
        cancelled="It was cancelled; nothing was changed.",
        icon=":material/grade:",
    )


def _show(found: Quality) -> None:
    st.markdown(plain(wording.verdict(found)))
    curve = None if found.refused else risk_coverage(found.scans)
    if curve is not None:
        _show_curve(curve)
    for line in (wording.basis(found), wording.caution(found), *found.notes):
        if line:
            st.caption(plain(line))


def _show_curve(curve: RiskCoverage) -> None:
    with st.container(horizontal=True, gap="large"):
        for share, kept, _ in curve.rows():
            st.metric(f"Dice at {share:.0%} reviewed", f"{kept:.3f}", width="content")
    st.markdown(wording.worth(curve))
    st.plotly_chart(risk_coverage_figure(curve), key="compare-quality-chart", config={"displaylogo": False})
    st.caption(READ)
