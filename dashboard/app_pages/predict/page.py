"""Quick prediction: a scan in, its mask out, in three steps: scan, models, mask. Or many scans, and their table."""

import streamlit as st

from covseg_core.prediction.output.report import NOTICE
from dashboard import navigation
from dashboard.app_pages.predict import (
    cohort,
    offered_models,
    prediction_task,
    result,
    step1_scan,
    step2_models,
    step3_result,
)
from dashboard.app_pages.predict.workspace import Workspace
from dashboard.components import slice_viewer, task_progress
from dashboard.formatting import plain
from dashboard.services import model_catalog, tasks, url_state

ONE, MANY = WAYS = ("One scan", "Cohort")
RIGHT = 420  # pixels of step 2: the longest name of a model, and what stands around it


def main() -> None:
    st.title("Quick prediction")
    st.caption(f"Upload a chest CT, get the mask of its infection. {NOTICE}")
    models = offered_models.offered()
    if not models:
        show_no_model()
        return
    if _way() == MANY:
        cohort.show(models)
        return
    # side by side where there is room for both: columns would go on to cut what is in them
    row = st.container(horizontal=True, gap="medium")
    left, right = row.container(width="stretch"), row.container(width=RIGHT)
    with left:
        space = step1_scan.show_scan()
    with right:
        chosen = step2_models.show_models(models, space)
        go = step2_models.ask_to_go(space, chosen)
    if space and go:
        lungs = chosen.lungs.run if chosen.lungs else None
        prediction_task.start(space, chosen.runs, lungs, chosen.mirror, chosen.precision)
        st.rerun()  # so that the button knows
    if space:
        show_prediction(space, chosen)


def _way() -> str:
    """What is to be predicted; a link to a cohort opens it."""
    if "predict-way" not in st.session_state:
        st.session_state["predict-way"] = MANY if url_state.read("many", "") or url_state.read("cohort", "") else ONE
    way = st.segmented_control(
        "What to predict", WAYS, required=True, key="predict-way", persist_state="session", label_visibility="collapsed"
    )
    if way == ONE:
        url_state.write(many=None, cohort=None)
    else:
        url_state.write(many="yes")
    return str(way)


def show_no_model() -> None:
    with st.container(border=True):
        if model_catalog.active_runs():
            st.subheader("A model is being trained")
            st.markdown("As soon as it has finished, it can be used here.")
            navigation.link(navigation.MONITOR, "Watch it learn")
        else:
            st.subheader("No model yet")
            st.markdown("Predictions need a trained model. Train one first; sample data will do.")
            navigation.link(navigation.TRAIN, "Go to Data and training")


def show_prediction(space: Workspace, chosen: step2_models.Chosen) -> None:
    """How far the task is; then step 3, or before it a look at the scan."""
    task = task_progress.show(space.task)
    waiting = task is None and tasks.get(space.task) is not None
    if task and task.state == "failed":
        st.error(plain(task.error), icon=":material/error:")
    if task and task.state == "cancelled":
        st.info("The prediction was cancelled.", icon=":material/cancel:")
    if space.answers and not waiting:
        step3_result.show(space, outdated=not chosen.answered(space.answers))
    elif not space.answers:
        st.subheader("Preview")
        st.caption(
            "Check that this is the right scan, with the patient's front up and right side on the left. Then predict."
        )
        slice_viewer.show(result.preview(space), "predict")


main()
