"""Step 3 of the Quick prediction page: figures, files and slices, at the threshold and smallest size that are set."""

from __future__ import annotations

from functools import partial
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from covseg_core.prediction.masks.lung_sides import TOLERANCE_VOXELS
from covseg_core.prediction.output.files import DICOM_SEG, DISAGREEMENT, LUNG_MASK, MASK, SHEET, TABLE
from covseg_core.prediction.output.folder import REPORT
from covseg_core.runs.operating_point import Thresholds, words
from dashboard.app_pages.predict import result as outcomes
from dashboard.app_pages.predict.passport import sentence
from dashboard.app_pages.predict.prediction_task import plain
from dashboard.app_pages.predict.workspace import Desk, Outcome, Result
from dashboard.components import slice_viewer
from dashboard.services import operating_points

VOTE = "A voxel is in the mask when more than half of the models say so; a tie is left out."
MOST_MM3 = 500
MOST_POINTS = 5
"""Models whose points stand beside the toggle; those of more are only in the table of models."""
OWN = "own"
START = "predict-start"
"""In the session: where the sliders have started from, and where they stood last: threshold and smallest size."""
SLIDERS = ("threshold", "minimum")


@st.fragment
def show(desk: Desk) -> None:
    """Moving a slider reruns only this."""
    result = desk.result
    if desk.checked is None or result is None:
        return
    st.subheader("3. Mask")
    figures, settings = st.columns([5, 2], gap="medium")
    with settings:
        thresholds = _settings(desk, result)
    with st.spinner("Measuring"):
        outcome = outcomes.outcome(desk, thresholds)
    if not desk.opened:
        slice_viewer.go_to("predict", outcomes.largest_slice(outcome))
        desk.opened = True
    report = outcome.report
    with figures:
        with st.container(horizontal=True, gap="medium"):
            for label, value in outcomes.headline(report).items():
                st.metric(label, value, width="content")
        lungs = report.lungs.warnings if report.lungs else ()
        own = [warning for answer in result.answers for warning in answer.warnings]
        for warning in dict.fromkeys([*own, *lungs]):
            st.warning(sentence(warning), icon=":material/warning:")
    _downloads(desk, result, outcome)
    slice_viewer.show(outcomes.scene(desk, outcome), "predict")
    if len(result.answers) > 1:
        st.caption(slice_viewer.HEAT)
    _details(result, outcome)


def _settings(desk: Desk, result: Result) -> Thresholds:
    """What the user has set: each model at its own operating point, where these differ, or one for all."""
    known = desk.passport is not None and desk.passport.spacing_mm is not None
    start = operating_points.setting(result.runs, known)
    if start.each:
        own = st.toggle(
            "Own operating points", True, key=OWN, bind="query-params",
            help="Each model at what validation has found best for it (Compare)",
        )  # fmt: skip
        if own:
            st.caption(_points(result, start))
            return start
        start = Thresholds()
    _start_from(start)
    threshold = st.slider(
        "Threshold", 0.05, 0.95, start.threshold, 0.05, key="threshold", bind="query-params",
        help="Probability from which a voxel is in the mask. Figures and downloads follow it.",
    )  # fmt: skip
    minimum = st.slider(
        "Smallest lesion (mm³)", 0, MOST_MM3, int(start.minimum_mm3), 10, key="minimum", disabled=not known,
        help="Connected parts below this size are left out." if known else "The size of a voxel is not known.",
    )  # fmt: skip
    st.session_state[START] = _stand(start), (threshold, minimum)
    if start.why:
        st.caption(f"To start from: {start.words}.")
    # a slider may give 0.6000000000000001
    return Thresholds(round(threshold, 2), float(minimum if known else 0))


def _points(result: Result, start: Thresholds) -> str:
    """Of each model, as Markdown."""
    lines = ["The table of models has each one's."]
    if len(start.each) <= MOST_POINTS:
        named = zip(outcomes.names(result), start.each, strict=True)
        lines = [f"{plain(name)}: {words(at.threshold, at.minimum_mm3)}" for name, at in named]
    if start.minimum_mm3:
        lines.append(sentence(start.words_of_vote))
    return "  \n".join([*lines, plain(f"From {start.why}.")])


def _start_from(start: Thresholds) -> None:
    """Sliders that stand where the models before were to start from go to where these are; others stay.

    While models are asked there are no sliders, and Streamlit keeps only the value that the URL has.
    """
    if START not in st.session_state:
        return
    started, stood = st.session_state[START]
    new = _stand(start) if stood == started else stood
    if started != _stand(start) or any(slider not in st.session_state for slider in SLIDERS):
        st.session_state.update(zip(SLIDERS, new, strict=True))


def _stand(thresholds: Thresholds) -> tuple[float, int]:
    """Where the sliders stand at a thresholds."""
    return thresholds.threshold, int(thresholds.minimum_mm3)


def _downloads(desk: Desk, result: Result, outcome: Outcome) -> None:
    """Each file as it is asked for."""

    def button(
        place: DeltaGenerator, label: str, name: str, kind: Literal["primary", "secondary"] = "secondary"
    ) -> None:
        make = partial(outcomes.download, desk, outcome.thresholds, name)
        place.download_button(
            label, make, name, icon=":material/download:", on_click="ignore", type=kind, key=f"get-{name}"
        )

    dicom = desk.checked is not None and desk.checked.kind == "dicom"
    row = st.container(horizontal=True, vertical_alignment="center")
    button(row, "Download mask", MASK)
    if dicom and not result.seg_problem:
        button(row, "DICOM SEG", DICOM_SEG)
    button(row, "Sheet to print", SHEET)
    more = row.popover("More files", icon=":material/stacks:")
    if result.lungs:
        button(more, "Lung mask", LUNG_MASK)
    if len(result.answers) > 1:
        button(more, "Disagreement", DISAGREEMENT)
        for name, run in zip(outcomes.names(result), result.runs, strict=True):
            button(more, name, f"mask_{run}.nii.gz")
    button(more, "Figures (CSV)", TABLE)
    button(more, "Report (JSON)", REPORT)
    row.caption("Masks are NIfTI in the scan's own geometry. All files are at the settings above.")
    if result.seg_problem:
        st.warning(sentence(f"no DICOM SEG: {result.seg_problem}"), icon=":material/warning:")


def _details(result: Result, outcome: Outcome) -> None:
    """Figures by model and by lung."""
    report = outcome.report
    several = len(result.answers) > 1
    if not several and report.lungs is None:
        return
    with st.expander("Figures by model and by lung" if several and report.lungs else "More figures", expanded=several):
        if several:
            rounded = st.column_config.NumberColumn(format="%.1f")
            table = outcomes.models_table(report, outcomes.names(result))
            columns = {"Volume [mL]": rounded, "Share of lungs [%]": rounded}
            st.dataframe(table, hide_index=True, column_config=columns)
            tied = f" Voxels with a tie: {report.tied_voxels:,}." if len(result.answers) % 2 == 0 else ""
            st.caption(VOTE + tied)
        if lungs := report.lungs:
            st.dataframe(outcomes.lungs_table(report), hide_index=True)
            ml = report.scan.voxel_ml
            unit = "voxels" if ml is None else "mL"
            reach = f"{TOLERANCE_VOXELS} voxels" if lungs.tolerance_mm is None else f"{lungs.tolerance_mm:g} mm"
            st.caption(
                f"Right and left are the patient's. Infection more than {reach} outside the lungs: "
                f"{outcomes.quantity(lungs.outside_voxels, ml)} {unit}. Left out, since it lay beyond the chest: "
                f"{outcomes.quantity(lungs.beyond_voxels, ml)} {unit}."
            )
