"""What reviews say of the masks that are learned from: rejected ones are left out, and a model's own are told of."""

from __future__ import annotations

import streamlit as st

from covseg_core.config import Target
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.reviews import rejected, unseen
from dashboard import navigation
from dashboard.formatting import plain

KEY = "train-leave-out"


def choose(dataset: Dataset, target: Target) -> tuple[str, ...]:
    """Ids of the cases that are left out; nothing is drawn where there is nothing to say. Raises `CovsegError`."""
    if made := unseen(dataset, target):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.warning(
                f"{len(made)} of the masks were made by a model, and nobody has accepted or corrected them: a model "
                "that learns from them learns another model's mistakes.",
                icon=":material/smart_toy:",
                width="stretch",
            )
            navigation.link(navigation.REVIEW, "Review them", query_params={"dataset": dataset.name})
    out = rejected(dataset, target)
    if not out:
        return ()
    st.session_state.setdefault(KEY, True)
    left = st.checkbox(
        f"Leave out rejected masks ({len(out)})",
        key=KEY,
        persist_state="session",
        help=f"Neither trained nor tested on: {plain(', '.join(out))}",
    )
    return tuple(out) if left else ()
