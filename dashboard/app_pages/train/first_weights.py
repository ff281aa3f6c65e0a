"""Where a training starts: from new weights, or from those of a finished run."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.config import Target
from covseg_core.errors import CovsegError
from covseg_core.runs.starting_point import starting_point
from dashboard.services.model_catalog import finished_runs

KEY, NEW = "train-start", "New weights"


def available(id: str) -> bool:
    """Whether a training can start from a run."""
    try:
        starting_point(id)
    except CovsegError:
        return False
    return True


def choose(targets: Sequence[Target]) -> str | None:
    """The id of the run, of those that learn one of the targets; None for new weights."""
    names = {one.id: one.label for one in finished_runs() if one.config.target in targets and available(one.id)}
    if st.session_state.get(KEY) not in names:
        st.session_state[KEY] = ""
    chosen = st.selectbox(
        "Start from",
        ["", *names],
        format_func=lambda id: names.get(id, NEW),
        key=KEY,
        persist_state="session",
        width=300,
        help="New weights, or those of a finished run, to train on with corrected masks or more cases. Then network, "
        "slices and split are that run's, and the learning rate is a tenth of the preset's.",
    )
    return chosen or None
