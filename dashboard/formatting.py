"""Values as people read them: durations, times, sentences, text that Markdown leaves alone. No Streamlit here."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

from covseg_core.progress import duration

__all__ = ["duration", "plain", "sentence", "when"]


def when(iso: str, zone: tzinfo | None = None) -> str:
    """A stored time, to the minute; with its year if that is another one than now; as it is if it cannot be read."""
    try:
        time = datetime.fromisoformat(iso).astimezone(zone)
    except ValueError:
        return iso
    year = "" if time.year == datetime.now(zone).year else f" {time.year}"
    return f"{time.day} {time:%b}{year}, {time:%H:%M}"


def slice_number(z: int) -> int:
    """How people count: the lowest slice is 1, which files and arrays call 0."""
    return z + 1


def plain(text: str) -> str:
    """Text, such as a file's name, that Markdown is to leave as it is.

    >>> print(plain("a_b*.nii"))
    a\\_b\\*.nii
    """
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:])", r"\\\1", text)


def sentence(line: str) -> str:
    """A warning as a sentence, in Markdown.

    >>> print(sentence("slices 8 mm apart"))
    Slices 8 mm apart.
    """
    return plain(f"{line[:1].upper()}{line[1:]}.")
