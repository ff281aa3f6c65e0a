"""What the last click did, said once on the next run of the page."""

from __future__ import annotations

import streamlit as st

NEWS, TROUBLE = "news", "trouble"
"""In the session: what to say."""


def show() -> None:
    """Say it."""
    if news := st.session_state.pop(NEWS, None):
        st.success(news, icon=":material/check_circle:")
    if trouble := st.session_state.pop(TROUBLE, None):
        st.error(trouble, icon=":material/error:")
