"""What a link reproduces: dataset, runs, policy for empty masks, case, slice and threshold, kept in the URL.

`slice` and `threshold` belong to the viewer's sliders, which the browser itself keeps in step with the URL; the others
are read before a page's widgets are made, and written once they have a value.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, TypeVar

import streamlit as st

SLIDERS = ("slice", "threshold")
"""Keys of widgets that are bound to the URL; Streamlit lets nobody else write these names."""

PAGE = "page"
"""In the session: which page was open last."""

T = TypeVar("T", str, int, float, list[str])


def enter(page: str) -> bool:
    """Forget what the sliders of another page were set to: pages share the names, and with them Streamlit the values.

    What the link says stays. Returns whether another page was open before.
    """
    changed = st.session_state.get(PAGE, page) != page
    if changed:
        for name in (*SLIDERS, "peak"):
            if name not in st.query_params:
                st.session_state.pop(name, None)
    st.session_state[PAGE] = page
    return bool(changed)


def read(name: str, default: T, allowed: Container[Any] | None = None) -> T:
    """A value of the URL in the type of `default`; `default` if it is missing, malformed or not allowed.

    Of a list, such as `runs`, the entries that are not allowed are left out; `default` if none is left.
    """
    if name in SLIDERS and name in st.session_state:  # newer than what the server knows of the URL
        text = str(st.session_state[name])
    else:
        text = st.query_params.get(name, "")
    if isinstance(default, list):
        entries = [entry for entry in dict.fromkeys(text.split(",")) if entry and (allowed is None or entry in allowed)]
        return entries or default
    try:
        value = type(default)(text)
    except ValueError:
        return default
    return value if text and (allowed is None or value in allowed) else default


def old_slice() -> int | None:
    """The slice, from 0, of a link from before slices were counted from 1; it is taken out of the URL."""
    text = st.query_params.pop("z", "")
    return int(text) if text.isdecimal() else None


def names_slice() -> bool:
    """Whether the link leads to a slice."""
    return "slice" in st.query_params or "z" in st.query_params


def gone(name: str, known: Container[str], instead: str) -> str:
    """A sentence on what a link names and what is not here any more, and what is shown instead; empty if all is here.

    A link that silently leads to something else is worse than one that leads nowhere.
    """
    missing = [id for id in dict.fromkeys(st.query_params.get(name, "").split(",")) if id and id not in known]
    if not missing:
        return ""
    all_of_it = len(missing) == len({id for id in st.query_params[name].split(",") if id})
    return f"Not here any more: {', '.join(missing)}.{f' {instead}' if all_of_it else ''}"


def write(**values: str | int | float | Sequence[str] | None) -> None:
    """Put values into the URL without a rerun; None, "" and an empty list take a name out of it.

    The sliders' names, `slice` and `threshold`, go the other way: they set the sliders, and only before those are made.
    """
    for name, value in values.items():
        if name in SLIDERS:
            st.session_state[name] = value
            continue
        text = "" if value is None else str(value) if isinstance(value, str | int | float) else ",".join(value)
        if text == st.query_params.get(name, ""):
            continue
        if text:
            st.query_params[name] = text
        else:
            del st.query_params[name]
