"""Step 3 of the Quick prediction page: figures, files and slices, at the operating point that is set."""

from __future__ import annotations

from functools import partial
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from covseg_core.prediction.ask import Answers
from covseg_core.prediction.combination import Combine
from covseg_core.prediction.masks.lung_sides import TOLERANCE_VOXELS
from covseg_core.prediction.output.files import DICOM_SEG, DICOM_SR, DISAGREEMENT, LUNG_MASK, MASK, SHEET, TABLE
from covseg_core.prediction.output.folder import REPORT
from covseg_core.prediction.output.report import Report
from covseg_core.runs.operating_point import PEAKS, Thresholds, words
from dashboard.app_pages.predict import from_archive, result, result_figures
from dashboard.app_pages.predict.workspace import LONGEST_NAME, Naming, Workspace, for_files
from dashboard.components import slice_viewer
from dashboard.formatting import plain, sentence
from dashboard.services import operating_points, url_state

WAYS: dict[Combine, str] = {"mean": "Mean of probabilities", "vote": "Majority vote"}
RULES: dict[Combine, str] = {
    "mean": "A voxel is in the mask where the mean of the models' probabilities, each stretched so that the model's "
    "threshold comes to 0.5, reaches 0.5.",
    "vote": "A voxel is in the mask if more than half of the models mark it; a tie is left out.",
}
COMBINE = "predict-combine"
"""In the session: how several models are combined."""
MOST_MM3 = 500
MOST_POINTS = 5
"""Models whose points stand beside the toggle; those of more are only in the table of models."""
OWN = "own"
START = "predict-start"
"""In the session: where the sliders have started from, and where they stood last: threshold, smallest size, peak."""
SLIDERS = ("threshold", "minimum", "peak")


@st.fragment
def show(space: Workspace, outdated: bool = False) -> None:
    """Moving a slider reruns only this. `outdated`: other models are chosen than those whose answers are shown."""
    answers = space.answers
    if space.scan is None or answers is None:
        return
    st.subheader("3. Mask")
    if outdated:
        st.warning(_of_before(answers), icon=":material/history:")
    figures, settings = st.columns([5, 2], gap="medium")
    with settings:
        combine = _combine(answers)
        thresholds = _thresholds(space, answers)
    with st.spinner("Measuring"):
        prediction = result.decided(space, thresholds, combine)
    if not space.opened:
        slice_viewer.go_to("predict", result.largest_slice(prediction))
        space.opened = True
    report = prediction.report
    with figures:
        with st.container(horizontal=True, gap="medium"):
            for label, value in result_figures.headline(report).items():
                st.metric(label, value, width="content")
        lungs = report.lungs.warnings if report.lungs else ()
        own = [warning for answer in answers.models for warning in answer.warnings]
        for warning in dict.fromkeys([*own, *lungs]):
            st.warning(sentence(warning), icon=":material/warning:")
        if sentences := result_figures.explained(report):
            st.caption("  \n".join(sentences))
    _downloads(space, answers, thresholds, combine)
    slice_viewer.show(result.scene(space, prediction, thresholds), "predict")
    if any(model.precision == "bfloat16" for model in report.models):
        st.caption("Computed in bfloat16: single probabilities differ a little from float32.")
    if report.mirror:
        st.caption("Each slice was shown to the models mirrored, too, and the two answers averaged.")
    _details(answers, report)


def _combine(answers: Answers) -> Combine:
    """How several models become one mask."""
    if len(answers.models) < 2:
        return "mean"
    if COMBINE not in st.session_state:
        st.session_state[COMBINE] = url_state.read("combine", "mean", WAYS)
    words = " ".join(RULES.values())
    combine = st.radio("Combine by", list(WAYS), format_func=WAYS.__getitem__, key=COMBINE, help=words)
    url_state.write(combine=combine if combine != "mean" else None)
    return combine


def _thresholds(space: Workspace, answers: Answers) -> Thresholds:
    """What the user has set: each model at its own operating point, where these differ, or one for all."""
    known = space.scan is not None and space.scan.voxel_ml is not None
    start = operating_points.setting(answers.runs, known)
    if start.each:
        own = st.toggle(
            "Own operating points", True, key=OWN, bind="query-params",
            help="Each model at the threshold, size and peak that were best on its validation part (see Compare)",
        )  # fmt: skip
        if own:
            st.caption(_points(answers, start))
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
    peak = st.select_slider(
        "Peak of a lesion", PEAKS, start.peak, format_func="{:g}".format, key="peak", bind="query-params",
        help="Connected parts whose probability nowhere reaches this are left out.",
    )  # fmt: skip
    st.session_state[START] = _stand(start), (threshold, minimum, peak)
    if start.why:
        st.caption(f"To start from: {start.words}.")
    # a slider may give 0.6000000000000001
    return Thresholds(round(threshold, 2), float(minimum if known else 0), peak)


def _points(answers: Answers, start: Thresholds) -> str:
    """Of each model, as Markdown."""
    lines = ["See the table of models."]
    if len(start.each) <= MOST_POINTS:
        named = zip(result_figures.names(answers), start.each, strict=True)
        lines = [f"{plain(name)}: {words(at.threshold, at.minimum_mm3, at.peak)}" for name, at in named]
    if start.minimum_mm3:
        lines.append(sentence(start.words_of_combined))
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


def _stand(thresholds: Thresholds) -> tuple[float, int, float]:
    """Where the sliders stand at these thresholds."""
    return thresholds.threshold, int(thresholds.minimum_mm3), thresholds.peak


def _of_before(answers: Answers) -> str:
    """Whose everything below is."""
    which = " and ".join(answers.runs) if len(answers.runs) < 4 else f"{len(answers.runs)} models"
    return (
        f"All figures, pictures and files below are of what was asked before: {plain(which)}. Press Predict for what "
        "is chosen now."
    )


def _naming(space: Workspace, seg: bool, place: DeltaGenerator) -> Naming:
    """What the files call the scan, and whether they name the patient."""
    text = place.text_input(
        "Name in files", space.file_name, max_chars=LONGEST_NAME, key=f"name-{space.id}",
        help="Files begin with it, and the sheet shows it. Use a pseudonym if they leave your group.",
    )  # fmt: skip
    keep = seg and space.names_patient and place.toggle(
        "Keep patient in DICOM SEG", key="predict-keep-patient",
        help="Copies name, id, birth date and study from the series, for an archive that files by them. Off: blank.",
    )  # fmt: skip
    return Naming(for_files(text), keep)


def _downloads(space: Workspace, answers: Answers, thresholds: Thresholds, combine: Combine) -> None:
    """Each file as it is asked for."""

    def button(
        place: DeltaGenerator, label: str, name: str, kind: Literal["primary", "secondary"] = "secondary"
    ) -> None:
        make = partial(result.download, space, thresholds, name, combine, naming)
        called = f"{naming.name}_{name}" if naming.name else name
        place.download_button(
            label, make, called, icon=":material/download:", on_click="ignore", type=kind, key=f"get-{name}"
        )

    dicom = space.scan is not None and space.scan.kind == "dicom"
    row = st.container(horizontal=True, vertical_alignment="bottom")
    naming = _naming(space, dicom and not space.seg_problem, row.container(width=230))
    button(row, "Download mask", MASK)
    if dicom and not space.seg_problem:
        button(row, "DICOM SEG", DICOM_SEG)
    button(row, "Sheet to print", SHEET)
    more = row.popover("More files", icon=":material/stacks:")
    if answers.lungs:
        button(more, "Lung mask", LUNG_MASK)
    if len(answers.models) > 1:
        button(more, "Disagreement", DISAGREEMENT)
        for name, run in zip(result_figures.names(answers), answers.runs, strict=True):
            button(more, name, f"mask_{run}.nii.gz")
    if dicom and not space.seg_problem:
        button(more, "Figures (DICOM SR)", DICOM_SR)
    button(more, "Figures (CSV)", TABLE)
    button(more, "Report (JSON)", REPORT)
    if dicom and not space.seg_problem and space.names_patient and (archives := from_archive.names()):
        from_archive.show_sending(space, thresholds, combine, archives, row)
    row.caption("Masks are NIfTI in the scan's own geometry. All files are at the settings above.")
    if space.seg_problem:
        st.warning(sentence(f"no DICOM SEG: {space.seg_problem}"), icon=":material/warning:")


def _details(answers: Answers, report: Report) -> None:
    """Figures by model and by lung."""
    several = len(answers.models) > 1
    if not several and report.lungs is None:
        return
    with st.expander("Figures by model and by lung" if several and report.lungs else "More figures", expanded=several):
        if several:
            rounded = st.column_config.NumberColumn(format="%.1f")
            table = result_figures.models_table(report, result_figures.names(answers))
            columns = {"Volume [mL]": rounded, "Share of lungs [%]": rounded}
            st.dataframe(table, hide_index=True, column_config=columns)
            voted = report.combine == "vote" and len(answers.models) % 2 == 0
            tied = f" Voxels with a tie: {report.tied_voxels:,}." if voted else ""
            st.caption(RULES[report.combine or "mean"] + tied)
        if lungs := report.lungs:
            st.dataframe(result_figures.lungs_table(report), hide_index=True)
            ml = report.scan.voxel_ml
            unit = "voxels" if ml is None else "mL"
            reach = f"{TOLERANCE_VOXELS} voxels" if lungs.tolerance_mm is None else f"{lungs.tolerance_mm:g} mm"
            st.caption(
                f"Right and left are the patient's. Infection more than {reach} outside the lungs: "
                f"{result_figures.quantity(lungs.outside_voxels, ml)} {unit}. Left out, since it lay beyond the chest: "
                f"{result_figures.quantity(lungs.beyond_voxels, ml)} {unit}."
            )
