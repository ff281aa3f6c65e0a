"""On the Compare page: whether correcting masks and training on has helped, for a model that began with another's."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation.model import Model
from covseg_core.evaluation.studies.correction_gain import Gain, measure_gain, stored_gain
from covseg_core.runs import Run
from dashboard.components import task_progress
from dashboard.formatting import plain
from dashboard.services import tasks

OPEN, CHOICE = "compare-gain", "compare-gain-run"


def show(chosen: Sequence[Model]) -> None:
    """An expander, if one of the models began with the weights of another."""
    runs = {run.id: run for model in chosen for run in model.runs if run.config.parent}
    if not runs:
        return
    box = st.expander("Did the corrections help?", icon=":material/trending_up:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        if st.session_state.get(CHOICE) not in runs:
            st.session_state[CHOICE] = next(iter(runs))
        if len(runs) > 1:
            st.selectbox("Model", list(runs), key=CHOICE)
        run = runs[st.session_state[CHOICE]]
        found = stored_gain(run)
        if found is None:
            _ask(run)
        else:
            _show(found)


def _ask(run: Run) -> None:
    def work(progress: tasks.TaskProgress, cancelled: object) -> None:
        measure_gain(run, progress)  # keeps it in the run's folder

    parent = plain(run.config.parent)
    st.caption(f"{plain(run.id)} began with the weights of {parent}, and has learned from {plain(run.config.data)}.")
    task_progress.task_button(
        ("gain", run.id),
        "Score before and after",
        work,
        doing="Scoring before and after",
        cancelled="Scoring before and after was cancelled; nothing was changed.",
        icon=":material/trending_up:",
    )


def _show(found: Gain) -> None:
    st.markdown(found.sentence)
    if found.warning:
        st.warning(plain(found.warning), icon=":material/edit_note:")
    work = found.work
    figures = {
        "Dice before": None if found.dice[0] is None else f"{found.dice[0]:.3f}",
        "Dice after": None if found.dice[1] is None else f"{found.dice[1]:.3f}",
        "Cases corrected": f"{len(work.cases)}",
        "Minutes of work": f"{work.minutes:g}",
        "Dice a minute": None if found.per_minute is None else f"{found.per_minute:+.4f}",
    }
    with st.container(horizontal=True, gap="large"):
        for label, value in figures.items():
            st.metric(label, value, width="content")
    st.caption(
        f"Mean over the same test scans, with the masks of {plain(found.data)}. {work.added:,} voxels were added and "
        f"{work.removed:,} removed in what was learned from. The interval is by patient."
    )
