"""A scan out of a real archive and its mask back into it, with real clicks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from orthanc import MISSING, Orthanc, running, stored, write_archives
from playwright.sync_api import expect

from covseg_core.archive.search import find_series
from covseg_core.archive.settings import archive_named
from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open

pytest.importorskip("dicomweb_client", reason="needs the optional extra: pip install dicomweb-client")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orthanc]:
    """With three series, before the dashboard starts."""
    with running(tmp_path / "orthanc") as orthanc:
        write_archives(tmp_path, monkeypatch, orthanc.url)
        for patient, day in (("anon-31", "20200401"), ("anon-31b", "20200405"), ("other", "20200401")):
            stored(tmp_path, patient, day)
        yield orthanc


def test_from_the_archive_and_back(archive: Orthanc, visit: Open, models: list[Run]) -> None:
    user = visit("predict")
    user.choose("Where it is", "From an archive")
    user.type("Patient ID", "nobody")
    user.click("Find")
    user.sees("No CT series of that patient and date.")
    user.type("Patient ID", "anon-3*")
    user.type("Study date", "2020-04-01")
    user.click("Find")
    user.sees(re.compile("YYYYMMDD-YYYYMMDD"))
    user.type("Study date", "20200401-20200430")
    user.click("Find")
    user.settles()
    user.pick("Series", "anon-31 · 20200401 · 6 images · Zzyzx 17")
    user.click("Fetch this series")
    user.sees("anon-31 20200401")
    user.click("Predict")
    user.sees("3. Mask")
    user.click("Send to an archive")
    user.page.get_by_role("button", name="Send", exact=True).click()
    expect(user.page.get_by_text("are stored in lab")).to_be_visible()
    assert len(find_series(archive_named("lab"), "anon-31", modality="SEG")) == 1
    user.page.keyboard.press("Escape")
    archive.stop()
    user.click("Another scan")
    user.choose("Where it is", "From an archive")
    user.click("Find")
    user.sees(re.compile("does not answer"))
    archive.start()
