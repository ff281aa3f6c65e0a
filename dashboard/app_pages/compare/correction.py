"""From a model's mask to a better truth: a link to the page Review, where it is opened to be drawn on."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from dashboard import navigation
from dashboard.services import corrections

HELP = "Opens the model's mask on Review, to be drawn on and saved as a revision of the true mask"


def offer(case: str, comparison: Comparison, chosen: Sequence[Model]) -> None:
    """The link, and of which model, if there are several."""
    names = wording.model_names(comparison)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = 0
        if len(chosen) > 1:
            places = range(len(chosen))
            place = st.selectbox("Model", places, format_func=names.__getitem__, key="compare-corrected", width=300)
        query = {"dataset": comparison.dataset, "case": case, corrections.MODEL: chosen[place].id}
        navigation.link(navigation.REVIEW, "Correct from this model's mask", query_params=query, help=HELP)
