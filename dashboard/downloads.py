"""The end of the Compare page: what can be taken away, as files."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import exporting
import scanchart
import streamlit as st

from covseg_core.data.datasets import load_dataset
from covseg_core.evaluation.result import Comparison
from covseg_core.runs import Run

ZIP = "application/zip"


def show(comparison: Comparison, chosen: Sequence[Run], case: str | None) -> None:
    """Buttons; a file is made when it is asked for. `case` is the scan whose masks are offered."""
    st.subheader("Take away")
    name = f"covseg-{comparison.dataset}"
    with st.container(horizontal=True):
        download = functools.partial(st.download_button, icon=":material/download:", on_click="ignore")
        download("Tables (CSV)", lambda: exporting.tables_zip(comparison), f"{name}-tables.zip", ZIP)
        download("Dice of each scan (HTML)", lambda: scanchart.html(comparison), f"{name}-dice.html", "text/html")
        if comparison.evaluations[0].predictions:
            download(
                "Test predictions (.npy)",
                lambda: exporting.predictions_zip(comparison, chosen),
                f"{name}-predictions.zip",
                ZIP,
                help="Probabilities of every model on every test slice, float16, at the network's size",
            )
        if case:
            download(
                "Masks of this scan (NIfTI)",
                lambda: exporting.masks_zip(comparison, chosen, load_dataset(comparison.dataset), case),
                f"{name}-{case}-masks.zip",
                ZIP,
                help="A mask by every model in the scan's own geometry, at the threshold of the scores",
            )
    st.caption("Figures save as PNG by the camera in their corner.")
