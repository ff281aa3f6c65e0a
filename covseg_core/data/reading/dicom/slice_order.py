"""The order of DICOM slices: by where they lie along the direction of the stack, never by file name or number."""

from __future__ import annotations

import numpy as np

from covseg_core.data.reading.dicom.grid import SAME, normal
from covseg_core.data.reading.dicom.headers import Header


def by_position(headers: list[Header]) -> list[Header]:
    """Slices of one direction, ascending; those at one place by their number in the series."""
    return sorted(headers, key=lambda header: (_depth(header, headers[0]), header.number or 0, header.instance_uid))


def places(ordered: list[Header]) -> list[list[Header]]:
    """Neighbours at one position, together."""
    found: list[list[Header]] = []
    last = -np.inf
    for header in ordered:
        depth = _depth(header, ordered[0])
        if depth - last < SAME:
            found[-1].append(header)
        else:
            found.append([header])
            last = depth
    return found


def twice(ordered: list[Header]) -> bool:
    """Whether two slices lie at one place."""
    return len(places(ordered)) < len(ordered)


def _depth(header: Header, like: Header) -> float:
    return float(np.dot(header.position or (), normal(like.orientation or ())))
