"""The Compare page's export as files."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import streamlit as st

from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.library.pseudonyms import Pseudonyms
from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.pseudonymous import pseudonymous, pseudonyms_of
from covseg_core.evaluation.results import Comparison
from covseg_core.figures import scans
from dashboard.app_pages.compare import export_files
from dashboard.services import model_catalog

ZIP = "application/zip"
NAMES = "compare-names"
"""In the session: whether files have the names of the cases."""


def show(comparison: Comparison, one: Comparison, shown: Sequence[Model]) -> None:
    """Buttons; a file is made when it is asked for.

    Parameters
    ----------
    one, shown : the models whose predictions and evidence are given, and their comparison: of several seeds one
    """
    st.subheader("Export")
    st.checkbox(
        "Names of the cases",
        key=NAMES,
        help="For your own use. Without it, files say case-001 and patient-001. Evidence never holds names.",
    )
    try:
        names = _names(comparison)
    except CovsegError as error:
        st.warning(f"Without names, nothing can be exported: {error}", icon=":material/person_off:")
        return
    name = f"covseg-{comparison.dataset}"
    given = pseudonymous(comparison, names) if names else comparison
    with st.container(horizontal=True):
        download = functools.partial(st.download_button, icon=":material/download:", on_click="ignore")
        download("Tables (CSV)", lambda: export_files.tables_zip(given), f"{name}-tables.zip", ZIP)
        download("Dice of each scan (HTML)", lambda: scans.html(given), f"{name}-dice.html", "text/html")
        first = one.evaluations[0]
        kept = first.predictions or first.folds  # those of folds lie in the folders of their runs
        if kept and not any(map(model_catalog.is_shipped, shown)):
            download(
                "Test predictions (.npy)",
                lambda: export_files.predictions_zip(one, shown, names),
                f"{name}-predictions.zip",
                ZIP,
                help="Probabilities of every model on every test slice, float16, at the network's size",
            )
            download(
                "Evidence (zip)",
                lambda: export_files.evidence_zip(one, shown),
                f"{name}-evidence.zip",
                ZIP,
                help="Settings, split, weights, hashes of the data, tables: `covseg verify` repeats the evaluation",
            )
    of = " Predictions and evidence are of the seed that is shown." if wording.seeds(comparison) else ""
    st.caption(f"Figures save as PNG by the camera in their corner.{of}")


def show_masks(comparison: Comparison, chosen: Sequence[Model], case: str, threshold: float) -> None:
    """A button for the masks of one scan, as the viewer shows them."""
    names = _names(comparison)
    called = names.cases[case] if names else case
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Masks of this scan (NIfTI)",
            lambda: export_files.masks_zip(
                comparison,
                chosen,
                load_dataset(comparison.dataset, comparison.evaluations[0].fingerprint),
                case,
                threshold,
                called,
            ),
            f"covseg-{comparison.dataset}-{called}-masks.zip",
            ZIP,
            icon=":material/download:",
            on_click="ignore",
            key="compare-masks",
            help=f"A mask by every model in the scan's own geometry; the scan is called {called} in it, see Export",
        )
        scored = comparison.evaluations[0].threshold
        note = "" if threshold == scored else f" The scores above are those at {scored:g}."
        st.caption(f"At the viewer's threshold, {threshold:g}.{note}")


def _names(comparison: Comparison) -> Pseudonyms | None:
    """What files call the cases; None for their true names. Raises `DatasetError` as `pseudonyms_of`."""
    return None if st.session_state.get(NAMES) else pseudonyms_of(comparison)
