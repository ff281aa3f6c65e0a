"""What the scans of a cohort are called: the names of their folders, which stay the same from call to call.

Where each of them lies stands in `sources.json` alone, which only this user can read: the names of files and folders
can tell who somebody is. A DICOM series is called by its key, since its folders are called as patients are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path

from covseg_core.data.library.pairing import case_id
from covseg_core.errors import PairingError
from covseg_core.files import read_json, to_json
from covseg_core.prediction.cohort.found import FoundScan
from covseg_core.prediction.cohort.state import write_file

SOURCES = "sources.json"
_WHAT = "Where the scans of this cohort lie. Paths can name people: keep it, and pass it on to nobody."
THUMBNAILS = "thumbnails"
"""Folder of the small pictures, beside those of the scans; no scan is called so."""


@dataclass(frozen=True)
class Source:
    """Where a scan lies."""

    place: str
    """As `FoundScan.place`."""
    series: str = ""
    """Key of a DICOM series."""


@dataclass(frozen=True)
class Sources:
    """Which scan is behind which name."""

    what: str = _WHAT
    scans: dict[str, Source] = field(default_factory=dict)
    """By name."""

    def write(self, folder: Path) -> None:
        """Into a cohort's folder, for nobody but this user; raises as `write_file`."""
        write_file(folder / SOURCES, to_json(self))
        (folder / SOURCES).chmod(0o600)


def read_sources(folder: Path) -> Sources:
    """Of a cohort's folder; nothing if it was removed, as before the folder is passed on."""
    return read_json(folder / SOURCES, Sources) if (folder / SOURCES).is_file() else Sources()


def name_scans(
    scans: Sequence[FoundScan], known: Mapping[tuple[str, str], str], taken: Sequence[str], pseudonyms: bool
) -> list[str]:
    """A name for each scan, fit for a folder; no two differ in capital letters only.

    Parameters
    ----------
    known : `FoundScan.key` -> name, of scans that have one already
    taken : further names that are in use
    pseudonyms : call them `scan-001` and so on, in their order
    """
    used = {name.lower() for name in (*known.values(), *taken, THUMBNAILS)}
    names = []
    for scan in scans:
        name = known.get(scan.key) or next(one for one in _possible(scan, pseudonyms) if one.lower() not in used)
        used.add(name.lower())
        names.append(name)
    return names


def _possible(scan: FoundScan, pseudonyms: bool) -> Iterator[str]:
    """What it may be called, the best first."""
    if pseudonyms:
        yield from (f"scan-{number:03}" for number in count(1))
    try:
        name = scan.name.name if scan.series else case_id(scan.name)
    except PairingError:
        name = "scan"
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def number_patients(scans: Sequence[FoundScan], known: Sequence[str]) -> list[tuple[str, int | None]]:
    """Who was scanned, as `patient-1` and so on, and the days since that patient's first scan.

    Parameters
    ----------
    known : of each scan, who it was in an earlier call; "" for none. Numbers stay

    Returns
    -------
    patient and day of each scan: "" and None where the files do not say who or when
    """
    numbers: dict[str, str] = {}
    for scan, earlier in zip(scans, known, strict=True):
        if scan.patient and earlier:
            numbers.setdefault(scan.patient, earlier)
    free = (name for number in count(1) if (name := f"patient-{number}") not in {*numbers.values(), *known})
    first: dict[str, date] = {}
    for scan in scans:
        if scan.patient and scan.patient not in numbers:
            numbers[scan.patient] = next(free)
        if scan.day is not None:
            first[scan.patient] = min(first.get(scan.patient, scan.day), scan.day)
    return [
        (numbers.get(scan.patient, ""), (scan.day - first[scan.patient]).days if scan.patient and scan.day else None)
        for scan in scans
    ]
