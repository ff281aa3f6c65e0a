"""The day of a series. What a user loses otherwise: volumes over time in the wrong order."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from dicomfiles import make_stack, write

from covseg_core.data.reading.dicom.dates import day_of


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"StudyDate": "20200401"}, date(2020, 4, 1)),
        ({"StudyDate": "20200401", "SeriesDate": "20200402"}, date(2020, 4, 2)),
        ({"StudyDate": "20200401", "AcquisitionDate": "20200403", "SeriesDate": "20200402"}, date(2020, 4, 3)),
        ({"StudyDate": "20200401", "AcquisitionDate": ""}, date(2020, 4, 1)),
        ({"StudyDate": "20201301"}, None),
        ({"StudyDate": None}, None),
    ],
)
def test_the_day_on_which_it_was_taken(tmp_path: Path, tags: dict[str, str | None], expected: date | None) -> None:
    [path, *_] = write(tmp_path, make_stack((2, 12, 10)), **tags)
    assert day_of(path) == expected


def test_a_file_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x08\0\x20\0" + bytes(range(256)))
    assert day_of(tmp_path / "x") is None
    assert day_of(tmp_path / "nothing") is None
