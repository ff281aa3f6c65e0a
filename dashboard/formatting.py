"""Values as people read them: durations, times, sentences, text that Markdown leaves alone. No Streamlit here."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo


def duration(seconds: float, rough: bool = False) -> str:
    """A time in two figures, or in one where it is an estimate.

    >>> duration(0.2), duration(42.4), duration(200), duration(600), duration(3 * 3600 + 300), duration(50 * 3600)
    ('1 s', '42 s', '3 min 20 s', '10 min', '3 h 05 min', '2 days 2 h')
    >>> duration(8.2, rough=True), duration(42.4, rough=True), duration(100, rough=True), duration(47000, rough=True)
    ('8 s', '40 s', '2 min', '13 h')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{round(whole, -1) if rough and whole >= 10 else whole} s"
    if whole < 600 and not rough:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    if hours < 10:
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} day{'s' * (days > 1)}" + f" {hours} h" * (hours > 0) if days else f"{hours} h"


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
