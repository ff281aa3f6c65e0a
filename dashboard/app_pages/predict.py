"""Quick prediction: a scan in, its mask out, in three steps: scan, models, mask."""

from pathlib import Path

import choosing
import outcomes
import picking
import predicting
import result_panel
import streamlit as st
import tasks
import viewer
from desks import Desk
from predicting import plain

from covseg_core import runs
from covseg_core.prediction.report import NOTICE

PAGES = Path(__file__).parent


def main() -> None:
    st.title("Quick prediction")
    st.caption(f"A chest CT in, its mask out. {NOTICE}")
    models = predicting.models()
    if not models:
        show_no_model()
        return
    left, right = st.columns([4, 3], gap="medium")
    with left:
        desk = picking.show_scan()
    with right:
        chosen = choosing.show_models(models, desk)
        go = choosing.ask_to_go(desk, chosen)
    if desk and go:
        predicting.start(desk, chosen.runs, chosen.lungs.run if chosen.lungs else None)
        st.rerun()  # so that the button knows
    if desk:
        show_prediction(desk)


def show_no_model() -> None:
    statuses = [runs.read_status(run) for run in runs.list_runs()]
    with st.container(border=True):
        if any(status and status.state in runs.ACTIVE for status in statuses):
            st.subheader("A model is being trained")
            st.markdown("As soon as it has finished, it can be used here.")
            st.page_link(PAGES / "monitor.py", label="Watch it learn", icon=":material/monitoring:")
        else:
            st.subheader("No model yet")
            st.markdown("Masks are drawn by models that were trained before. Train one first: sample data will do.")
            st.page_link(PAGES / "train.py", label="Go to Data and training", icon=":material/database:")


def show_prediction(desk: Desk) -> None:
    """How far the task is; then step 3, or before it a look at the scan."""
    task = tasks.show(desk.task)
    waiting = task is None and tasks.get(desk.task) is not None
    if task and task.state == "failed":
        st.error(plain(task.error), icon=":material/error:")
    if task and task.state == "cancelled":
        st.info("The prediction was cancelled.", icon=":material/cancel:")
    if desk.result and not waiting:
        result_panel.show(desk)
    elif not desk.result:
        st.subheader("Preview")
        st.caption("Is it the scan you meant, with the patient's front up and right side on the left? Then predict.")
        viewer.show(outcomes.preview(desk), "predict")


main()
