"""Broken files and broken links: a user must read in a line what to do, and never see a traceback."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from covseg_core.data.phantom.phantom import write_sample
from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open

BROKEN = {
    "text": lambda scan: b"This is not a scan.",
    "empty": lambda scan: b"",
    "cut": lambda scan: scan[: len(scan) // 2],
    "not compressed": lambda scan: gzip.decompress(scan)[:100],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_scan_is_refused_in_one_line(visit: Open, models: list[Run], tmp_path: Path, kind: str) -> None:
    [case] = write_sample(tmp_path / "new", scans=1, size=32, slices=8)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(BROKEN[kind]((case / "ct.nii.gz").read_bytes()))
    user = visit("predict")
    user.send(broken)
    alert = user.main.get_by_role("alert")
    expect(alert).to_contain_text("broken.nii.gz")
    assert "Traceback" not in alert.inner_text()
    user.send(case / "ct.nii.gz")  # and the next file is as welcome as ever
    expect(user.main.get_by_role("button", name="Predict")).to_be_enabled()
    expect(alert).to_have_count(0)


def test_a_broken_file_among_uploaded_ones_is_named(visit: Open, tmp_path: Path) -> None:
    """Of many files, the user must learn which one to replace; with that one replaced they are taken."""
    [case] = write_sample(tmp_path / "new", scans=1, size=32, slices=8)
    whole = (case / "ct.nii.gz").read_bytes()
    (case / "ct.nii.gz").write_bytes(whole[:500])
    user = visit()
    user.send(tmp_path / "new")
    user.click("Import")
    expect(user.main.get_by_role("alert")).to_contain_text("ct.nii.gz")
    user.click("Discard")
    expect(user.main.get_by_role("button", name="Discard")).to_have_count(0)
    (case / "ct.nii.gz").write_bytes(whole)
    user.send(tmp_path / "new")
    user.click("Import")
    user.sees("is ready: 1 cases.")


def test_a_link_to_what_is_gone_opens_the_page_all_the_same(visit: Open, models: list[Run]) -> None:
    for path, title in {
        "monitor?runs=gone": "Live curves",
        "runs?runs=gone": "Runs",
        "?again=gone": "Data and training",
        "compare?runs=gone,first-dice&case=nobody&slice=999&threshold=7": "Compare",
        "predict?dataset=gone&case=nobody&runs=gone": "Quick prediction",
        "?dataset=gone": "Data and training",
    }.items():
        user = visit(path)
        user.sees_title(title)
        user.settles()
        user.page.close()
