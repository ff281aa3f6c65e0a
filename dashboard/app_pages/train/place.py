"""Where a training runs: asked only where there is more than this computer."""

from __future__ import annotations

import streamlit as st

from covseg_core.errors import PlaceError
from covseg_core.places import LOCAL, place_names
from dashboard.formatting import plain

KEY = "train-place"
_HERE = "This computer"


def choose() -> str:
    """Name of the place; this computer, without a question, if there is no other one."""
    try:
        names = place_names()
    except PlaceError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return LOCAL
    if len(names) == 1:
        return LOCAL
    if st.session_state.get(KEY) not in names:
        st.session_state[KEY] = LOCAL
    chosen = st.selectbox(
        "Place",
        names,
        key=KEY,
        persist_state="session",
        format_func=lambda name: _HERE if name == LOCAL else name,
        width=210,
        help="On a cluster the trainings run side by side, as its queue lets them.",
    )
    return chosen or LOCAL
