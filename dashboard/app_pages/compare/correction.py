"""From a model's mask to a better truth: it is opened on the page of the data, to be drawn on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.revisions import stored_mask
from covseg_core.data.slices.cache import case_grid
from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_predictions.predictions import native
from dashboard import navigation
from dashboard.services import corrections


def offer(dataset: Dataset, case: Case, comparison: Comparison, chosen: Sequence[Model]) -> None:
    """A button, and which model, if there are several."""
    names = wording.model_names(comparison)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = 0
        if len(chosen) > 1:
            places = range(len(chosen))
            place = st.selectbox("Model", places, format_func=names.__getitem__, key="compare-corrected", width=300)
        help = "Opens the model's mask on Data and training, to be drawn on and saved as a revision of the true mask"
        if st.button("Correct from this model's mask", icon=":material/edit:", help=help):
            _open(dataset, case, comparison, chosen[place])


def model_mask(dataset: Dataset, case: Case, comparison: Comparison, model: Model) -> np.ndarray:
    """What a model marks at the threshold of the scores, (Z, Y, X) uint8 0/1; the true mask where it was not asked.

    Raises
    ------
    CovsegError : a file of the run or of the case cannot be read
    """
    first = comparison.evaluations[0]
    mask = stored_mask(dataset, case, model.config.target).copy()
    stored, grid = model.predictions(), case_grid(dataset, case, model.config.prepare)
    for score in first.model.slices:
        if score.case == case.id:
            mask[score.z] = native(stored, case.id, score.z, grid) >= first.threshold
    return mask


def _open(dataset: Dataset, case: Case, comparison: Comparison, model: Model) -> None:
    try:
        with st.spinner("Reading the mask"):
            mask = model_mask(dataset, case, comparison, model)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    corrections.begin(dataset, case, model.config.target, model.id, mask)
    st.session_state[corrections.NEXT] = dataset.name, case.id
    navigation.go(navigation.TRAIN, dataset=dataset.name, case=case.id)
