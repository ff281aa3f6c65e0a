"""Files of one series number that do not lie in one stack: other patients, directions, matrices, phases.

A part is a set of files that can make one volume: one patient, one direction, one matrix, and no position twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from covseg_core.data.reading.dicom.headers import Header
from covseg_core.data.reading.dicom.slice_order import by_position, places, twice

_SAME_DIRECTION = 5e-3
"""Largest difference of direction cosines within a stack: a third of a degree."""
_LOCALISERS = {"LOCALIZER", "SCOUT", "TOPOGRAM"}


@dataclass(frozen=True)
class Part:
    """Files that make one volume, ascending along `grid.normal` where they have positions."""

    headers: tuple[Header, ...]
    problem: str = ""
    warnings: tuple[str, ...] = field(default=())


def split(headers: Iterable[Header]) -> list[Part]:
    """Split the files of one series, largest part first."""
    unique, copies = _without_copies(headers)
    parts = [part for group in _alike(unique) for part in _phases(group)]
    if copies:
        parts = [Part(p.headers, p.problem, (*p.warnings, "files that are there twice were used once")) for p in parts]
    return sorted(parts, key=lambda part: (bool(part.problem), -len(part.headers)))


def is_localiser(header: Header) -> bool:
    """Whether the file is an overview picture to plan the scan by."""
    return bool(_LOCALISERS.intersection(header.image_type))


def _without_copies(headers: Iterable[Header]) -> tuple[list[Header], int]:
    """Each slice once: a UID of an instance is given once in the world, so files that share one are copies."""
    unique: dict[Hashable, Header] = {}
    copies = 0
    for header in headers:
        key = (header.instance_uid, header.position) if header.instance_uid else header.path
        copies += key in unique
        unique.setdefault(key, header)
    return list(unique.values()), copies


def _alike(headers: list[Header]) -> list[list[Header]]:
    """Groups of one patient, kind, matrix and direction."""
    groups: dict[Hashable, list[Header]] = {}
    directions: list[tuple[float, ...]] = []
    for header in headers:
        size = tuple(round(side, 3) for side in header.spacing or ())
        shape = (header.rows, header.columns, header.samples, header.frames > 1, size, header.position is None)
        what = (header.patient, header.modality, header.sop_class, is_localiser(header), header.rescale[2])
        groups.setdefault((*what, *shape, _direction(header, directions)), []).append(header)
    return list(groups.values())


def _direction(header: Header, known: list[tuple[float, ...]]) -> int:
    """Number of the first known direction that is nearly the header's; a new one is added; -1 without any."""
    if header.orientation is None:
        return -1
    for index, direction in enumerate(known):
        if max(abs(a - b) for a, b in zip(direction, header.orientation, strict=True)) < _SAME_DIRECTION:
            return index
    known.append(header.orientation)
    return len(known) - 1


def _phases(headers: list[Header]) -> list[Part]:
    """Take apart a stack that has positions more than once, by what tells its phases apart."""
    if any(header.position is None or header.orientation is None for header in headers):
        return [Part(tuple(headers))]
    ordered = by_position(headers)
    if not twice(ordered):
        return [Part(tuple(ordered))]
    for tell in _TELLS:
        groups: dict[Hashable, list[Header]] = {}
        for header in ordered:
            groups.setdefault(tell(header), []).append(header)
        if len(groups) > 1 and not any(twice(group) for group in groups.values()):
            break
    else:
        groups = _rounds(ordered)
    parts = [Part(tuple(group)) for group in sorted(groups.values(), key=len, reverse=True)]
    return [_stray(part, parts[0]) for part in parts]


def _stray(part: Part, main: Part) -> Part:
    """Mark a part of which the main one has more: a slice sent twice is not a phase."""
    if part is main:
        return part
    if len(part.headers) < min(len(main.headers), max(3, len(main.headers) // 2)):
        return Part(part.headers, "slices at positions that a larger part of the same series has, too")
    return part


def _rounds(ordered: list[Header]) -> dict[Hashable, list[Header]]:
    """First, second, ... slice at each position, by their numbers in the series."""
    groups: dict[Hashable, list[Header]] = {}
    for place in places(ordered):
        for turn, header in enumerate(sorted(place, key=lambda one: (one.number or 0, one.instance_uid))):
            groups.setdefault(turn, []).append(header)
    return groups


_TELLS: tuple[Callable[[Header], Hashable], ...] = (
    lambda header: header.acquisition[1],  # temporal position
    lambda header: header.acquisition[0],  # acquisition number
    lambda header: header.kernel,
    lambda header: header.image_type,
    lambda header: header.rescale,
    lambda header: header.thickness,
    lambda header: header.acquisition[2],  # date and time
    lambda header: header.acquisition[3],  # time
)
