"""What is reviewed: which masks, in which order, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import streamlit as st

from covseg_core.data.library.datasets import ROLES, Dataset
from covseg_core.data.library.reviews import current_mask
from covseg_core.data.library.revision import Role
from covseg_core.data.library.revisions import LONGEST_NAME
from covseg_core.errors import CovsegError
from covseg_core.evaluation import review_queue
from covseg_core.evaluation.review_queue import Order, Ranked
from covseg_core.evaluation.stored_scores import stored_pooled
from covseg_core.runs import Run
from dashboard.formatting import plain
from dashboard.services import model_catalog

READER = "reader"
"""In the session: who looks; kept from page to page."""
ROLE, ORDER = "review-role", "review-order"
NAMES: dict[Role, str] = {"infection": "Infection", "lung": "Lungs"}
LABELS: dict[Order, str] = {
    "doubt": "Doubted by models first",
    "quality": "Lowest expected Dice first",
    "agreement": "Models disagree most first",
    "size": "Largest first",
    "name": "By name",
}
HELP = (
    "Doubted: masks first of which models that did not learn from them are sure of something else. Models disagree: "
    "of masks that models have made, those first on which they agree least. Expected Dice: what that agreement means, "
    "where it was measured for these models."
)


@dataclass(frozen=True)
class Choice:
    """What the widgets say."""

    role: Role
    order: Order
    reader: str
    runs: tuple[Run, ...]
    """What has been tested on the dataset, for the order by doubt."""


def choose(dataset: Dataset) -> Choice:
    """Three widgets, in the row of the dataset."""
    roles = [role for role in ROLES if any(role in case.files for case in dataset.cases)] or list(ROLES)
    if st.session_state.get(ROLE) not in roles:
        st.session_state[ROLE] = roles[0]
    role = st.segmented_control(
        "Mask", roles, format_func=NAMES.__getitem__, required=True, key=ROLE, persist_state="session"
    )
    role = cast(Role, role)  # required, so never None
    runs = tested_on(dataset, role)
    orders = _orders(dataset, role, runs)
    if st.session_state.get(ORDER) not in orders:
        st.session_state[ORDER] = orders[0]
    order = st.selectbox(
        "Order", orders, format_func=LABELS.__getitem__, key=ORDER, persist_state="session", help=HELP, width=260
    )
    words = "Stands at what you say of a mask, and at masks that you correct"
    reader = st.text_input(
        "Your name", key=READER, max_chars=LONGEST_NAME, persist_state="session", help=words, width=200
    )
    return Choice(role, order, reader.strip(), runs)


def ranked(dataset: Dataset, chosen: Choice) -> list[Ranked]:
    """Every case that has such a mask, as `review_queue.ranked`; by name, and a sentence, where that cannot be told."""
    key = (dataset.name, dataset.fingerprint, dataset.created, chosen.role, chosen.order)
    try:
        return _ranked((*key, *(run.id for run in chosen.runs)), dataset, chosen)
    except CovsegError as error:
        st.warning(f"In the order of names: {plain(str(error))}", icon=":material/sort_by_alpha:")
        return review_queue.ranked(dataset, chosen.role)


def tested_on(dataset: Dataset, role: Role) -> tuple[Run, ...]:
    """Runs of the newest experiment that was trained and scored on this dataset."""
    models = [model for model in model_catalog.finished_models() if model.config.dataset == dataset.name]
    models = [model for model in models if model.config.target == role and _is_scored(model.runs)]
    if not models:
        return ()
    newest = max(models, key=lambda model: model.config.created).config.experiment
    return tuple(run for model in models if model.config.experiment == newest for run in model.runs)


def _is_scored(runs: tuple[Run, ...]) -> bool:
    try:
        return all(stored_pooled(run) is not None for run in runs)
    except CovsegError:
        return False


def _orders(dataset: Dataset, role: Role, runs: tuple[Run, ...]) -> list[Order]:
    """Those that say something here, the most useful first."""
    masks = [current_mask(dataset, case, role) for case in dataset.cases]
    made = any(mask is not None and mask.agreement is not None for mask in masks)
    expected = any(mask is not None and mask.expected_dice is not None for mask in masks)
    useful: dict[Order, bool] = {
        "doubt": bool(runs),
        "quality": expected,
        "agreement": made,
        "size": True,
        "name": True,
    }
    return [order for order, there in useful.items() if there]


@st.cache_data(max_entries=8, show_spinner="Comparing masks and models")
def _ranked(key: object, _dataset: Dataset, _chosen: Choice) -> list[Ranked]:
    return review_queue.ranked(_dataset, _chosen.role, _chosen.order, _chosen.runs)
