"""The day on which a series was taken: read where days between scans are wanted, and kept nowhere.

A date tells who somebody is as a name does. Who asks for it is to give on no more than differences of days.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pydicom

from covseg_core.data.reading.quiet import quiet

_TAGS = ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate")
"""The first that says something counts. That of a study is of the day it was begun."""


def day_of(file: Path) -> date | None:
    """Of one DICOM file; None where it does not say, or makes no sense."""
    try:
        with quiet():
            tags = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
            days = [_day(str(tags.get(name) or "")) for name in _TAGS]
    except Exception:  # whatever pydicom meets in a damaged file
        return None
    return next((day for day in days if day is not None), None)


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").date()
    except ValueError:
        return None
