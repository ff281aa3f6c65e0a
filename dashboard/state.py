"""What a link reproduces: dataset, runs, case, slice and threshold, kept in the URL.

`z` and `threshold` belong to the viewer's sliders, which the browser itself keeps in step with the URL; the others are
read before a page's widgets are made, and written once they have a value.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeVar

import streamlit as st

NAMES = ("dataset", "runs", "case", "z", "threshold")
SLIDERS = ("z", "threshold")
"""Names that are the keys of widgets bound to the URL; Streamlit lets nobody else write them."""

T = TypeVar("T", str, int, float, list[str])


def read(name: str, default: T, allowed: Container[Any] | None = None) -> T:
    """A value of the URL in the type of `default`; `default` if it is missing, malformed or not allowed.

    Of a list, such as `runs`, the entries that are not allowed are left out; `default` if none is left.
    """
    text = st.query_params.get(name)
    if text is None:
        return default
    if isinstance(default, list):
        entries = [entry for entry in dict.fromkeys(text.split(",")) if entry and (allowed is None or entry in allowed)]
        return entries or default
    try:
        value = type(default)(text)
    except ValueError:
        return default
    return value if allowed is None or value in allowed else default


def write(**values: str | int | float | list[str] | tuple[str, ...] | None) -> None:
    """Put values into the URL without a rerun; None, "" and an empty list take a name out of it."""
    for name, value in values.items():
        if name in SLIDERS:
            raise ValueError(f"{name} is the viewer's: viewer.go_to sets it")
        text = ",".join(value) if isinstance(value, list | tuple) else "" if value is None else str(value)
        if text == st.query_params.get(name, ""):
            continue
        if text:
            st.query_params[name] = text
        else:
            del st.query_params[name]
