"""Which series an archive has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from covseg_core.archive.settings import Archive
from covseg_core.errors import SettingError

_FIELDS = (
    "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "StudyDate", "Modality", "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
)  # fmt: skip
"""What is asked for: neither the name of a patient nor a date of birth."""
_DATE = re.compile(r"(\d{8})?(-(\d{8})?)?")
MOST = 1000


@dataclass(frozen=True)
class Series:
    """A series of an archive."""

    study: str
    """Study Instance UID."""
    series: str
    """Series Instance UID."""
    patient: str = ""
    """Patient ID, which is a pseudonym in archives for research."""
    date: str = ""
    """Of the study, `YYYYMMDD`."""
    modality: str = ""
    description: str = ""
    images: int | None = None
    """How many there are; None if the archive does not say."""


def find_series(
    archive: Archive, patient: str = "", date: str = "", modality: str = "CT", most: int = 100
) -> list[Series]:
    """Series by patient, date and modality, the newest study first.

    Parameters
    ----------
    patient : Patient ID, of which `*` stands for any letters; empty for all
    date : of the study, `YYYYMMDD`, or `YYYYMMDD-YYYYMMDD` where either end may be left out; empty for all
    modality : such as `CT`; empty for all
    most : series that are asked for

    Raises
    ------
    SettingError : a date or number that cannot be
    ArchiveError : as `connected`
    """
    from covseg_core.archive.connection import connected  # which imports what speaks HTTP: pages begin without it

    if not _DATE.fullmatch(date) or date == "-":
        raise SettingError("date", repr(date), "YYYYMMDD, or YYYYMMDD-YYYYMMDD")
    if not 1 <= most <= MOST:
        raise SettingError("most", str(most), f"1 to {MOST}")
    wanted = {"PatientID": patient.strip(), "StudyDate": date, "Modality": modality.strip().upper()}
    filters = {name: value for name, value in wanted.items() if value}
    with connected(archive) as client:
        found = [_series(item) for item in client.search_for_series(search_filters=filters, fields=_FIELDS, limit=most)]
    return sorted(found, key=lambda one: (one.date, one.patient, one.study, one.series), reverse=True)


def known_series(client: Any, study: str, series: str) -> Series | None:
    """One series; None if the archive has it not. `client` as `connected` yields it."""
    filters = {"SeriesInstanceUID": series}
    found = client.search_for_series(study, search_filters=filters, fields=_FIELDS)
    return next((one for one in map(_series, found) if one.series == series), None)


def _series(item: Any) -> Series:
    from pydicom import Dataset

    dataset = Dataset.from_json(item)
    images = dataset.get("NumberOfSeriesRelatedInstances")
    return Series(
        study=str(dataset.StudyInstanceUID),
        series=str(dataset.SeriesInstanceUID),
        patient=str(dataset.get("PatientID") or ""),
        date=str(dataset.get("StudyDate") or ""),
        modality=str(dataset.get("Modality") or ""),
        description=str(dataset.get("SeriesDescription") or ""),
        images=None if images is None else int(images),
    )
