"""How far long work is: what it calls, and the same for work that is a part of longer work."""

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
