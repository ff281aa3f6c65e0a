"""How far long work is: what it calls, the same for work that is a part of longer work, and times in words."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


def part_of(progress: Progress | None, before: int, size: int, total: int) -> Progress | None:
    """For a part: `size` of `total`, after `before` of it; the whole has advanced when the part has.

    >>> half = part_of(lambda done, total: print(done, "of", total), 100, 100, 200)
    >>> half(3, 4)
    175 of 200
    """
    if progress is None or not total:
        return None
    return lambda done, of: progress(before + round(size * done / max(of, 1)), total)


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
