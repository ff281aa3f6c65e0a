"""Quick prediction: a scan in, its mask out, in three steps: scan, models, mask."""

from functools import partial
from pathlib import Path
from typing import Literal

import picking
import predicting
import state
import streamlit as st
import tasks
import viewer
from comparing import Finished
from desks import Desk, Result
from predicting import plain
from streamlit.delta_generator import DeltaGenerator

from covseg_core import runs
from covseg_core.prediction.outputs import REPORT
from covseg_core.prediction.report import NOTICE
from covseg_core.prediction.writing import MASK

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
        chosen = choose_models(models, desk)
        go = ask_to_go(desk, chosen)
    if desk and go:
        predicting.start(desk, [one.run for one in chosen])
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


def choose_models(models: list[Finished], desk: Desk | None) -> list[Finished]:
    """Step 2; something sensible is chosen already."""
    st.subheader("2. Models")
    targets = [target for target in predicting.TARGETS if any(one.config.target == target for one in models)]
    target = targets[0]
    if len(targets) > 1:
        target = st.segmented_control(
            "What to outline", targets, default=target, format_func=predicting.TARGETS.__getitem__, required=True
        )
    offered = {one.run.id: one for one in models if one.config.target == target}
    shown = [run for run in (desk.result.runs if desk and desk.result else ()) if run in offered]
    default = state.read("runs", shown or predicting.preselected(list(offered.values())), offered)
    ids = st.multiselect(
        "Models",
        list(offered),
        default,
        format_func=lambda id: offered[id].label,
        key=f"models-{target}",
        placeholder="Choose at least one",
        wrap=True,
        help="Several models vote: a voxel is in the mask when more than half of them say so.",
    )
    state.write(runs=ids)
    chosen = [offered[id] for id in ids]
    if twins := predicting.same_models(chosen):
        st.warning(twins, icon=":material/warning:")
    elif len(chosen) == 1 and len(offered) > 1:
        st.caption("Add models to see how far they agree.")
    return chosen


def ask_to_go(desk: Desk | None, chosen: list[Finished]) -> bool:
    """Whether Predict was pressed; it cannot be where there is nothing to do."""
    running = desk is not None and (task := tasks.get(desk.task)) is not None and task.state == "running"
    done = desk is not None and desk.result is not None and desk.result.runs == tuple(one.run.id for one in chosen)
    unready = "Choose a scan first." if desk is None else "" if chosen else "Choose a model first."
    disabled = bool(unready) or running or done
    go = st.button("Predict", icon=":material/bolt:", type="primary", disabled=disabled)
    if disabled and not running:
        st.caption(unready or "Done: the mask is below.")
    return go


def show_prediction(desk: Desk) -> None:
    """Step 3: how far the task is, then what came out."""
    task = tasks.show(desk.task)
    if task is None and tasks.get(desk.task):
        return
    if task and task.state == "failed":
        st.error(plain(task.error), icon=":material/error:")
    if task and task.state == "cancelled":
        st.info("The prediction was cancelled.", icon=":material/cancel:")
    if desk.result:
        if not desk.opened:
            viewer.go_to("predict", predicting.largest_slice(desk.result))
            desk.opened = True
        show_result(desk)


@st.fragment
def show_result(desk: Desk) -> None:
    """The threshold and all that hangs on it: moving it reruns only this."""
    scan, result = desk.checked, desk.result
    if scan is None or result is None:
        return
    st.subheader("3. Mask")
    left, right = st.columns([5, 2], gap="medium")
    threshold = right.slider(
        "Threshold", 0.05, 0.95, 0.5, 0.05, key="threshold", bind="query-params",
        help="Probability from which a voxel is in the mask. Figures and downloads follow it.",
    )  # fmt: skip
    figures = predicting.figures(scan, result, threshold)
    with left.container(horizontal=True, gap="medium"):
        for label, value in figures.cells.items():
            st.metric(label, value, width="content")
    for warning in dict.fromkeys(warning for answer in result.answers for warning in answer.warnings):
        st.warning(plain(f"{warning}."), icon=":material/warning:")
    show_downloads(desk, result, threshold)
    viewer.show(predicting.scene(desk, scan, result, threshold), "predict")
    if len(result.answers) > 1:
        volumes = st.column_config.NumberColumn(format="%.1f")
        st.dataframe(figures.table, hide_index=True, column_config={"Volume [mL]": volumes})
        st.caption(predicting.VOTE + (f" Voxels with a tie: {figures.tied:,}." if len(result.answers) % 2 == 0 else ""))


def show_downloads(desk: Desk, result: Result, threshold: float) -> None:
    """The mask, one of each model, and the report, at the threshold as it is set."""

    def button(place: DeltaGenerator, label: str, name: str, kind: Literal["primary", "secondary"]) -> None:
        make = partial(predicting.download, desk, threshold, name)
        place.download_button(
            label, make, name, icon=":material/download:", on_click="ignore", type=kind, key=f"get-{name}"
        )

    row = st.container(horizontal=True, vertical_alignment="center")
    button(row, "Download mask", MASK, "primary")
    if len(result.answers) > 1:
        popover = row.popover("Masks of the models", icon=":material/stacks:")
        for name, run in zip(predicting.names(result), result.runs, strict=True):
            button(popover, name, f"mask_{run}.nii.gz", "secondary")
    button(row, "Report", REPORT, "secondary")
    row.caption("NIfTI in the scan's own geometry; the report is JSON. Both at the threshold that is set.")


main()
