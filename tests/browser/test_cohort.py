"""Many scans at once, as somebody with a browser has them predicted, leaves, comes back and looks at one."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from covseg_core.data.library.datasets import Dataset
from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open

TALLEST = 2000
CELL = 17
"""Half the height of a row [px]."""


def test_a_cohort_from_upload_to_zip(visit: Open, models: list[Run], sample: Dataset, tmp_path: Path) -> None:
    """The table is drawn on a canvas, so that only a real browser can choose a row in it."""
    (tmp_path / "in").mkdir()
    for case in sample.cases:
        (tmp_path / "in" / f"{case.id}.nii.gz").write_bytes(sample.path(case, "scan").read_bytes())
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"nothing")
    packed = tmp_path / "scans.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "in").iterdir()):
            archive.write(path, path.name)
    user = visit("predict")
    user.choose("What to predict", "Cohort")
    user.send(packed)
    user.sees("1 file uploaded")
    user.click("Predict all")
    user.sees("3. Cohort")  # the click has arrived
    user.page.reload()  # it goes on without the page
    user.sees("3. Cohort")
    user.sees("Choose a row, at its left end")
    user.settles()
    figures = dict(zip(labels(user), values(user), strict=True))
    assert figures["Predicted"] == "6" and figures["Failed"] == "1"
    canvas = user.main.get_by_test_id("data-grid-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    user.page.mouse.click(box["x"] + 20, box["y"] + 38 + 3 * CELL)  # the second row: the first is the broken one
    user.settles()
    expect(user.panels).to_have_count(2)  # CT and mask
    assert user.main.evaluate("node => node.scrollHeight") < TALLEST
    content = user.download("Download all (zip)", tmp_path).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        rows = list(csv.DictReader(archive.read("cohort.csv").decode().splitlines()))
        masks = [name for name in archive.namelist() if name.endswith("/mask.nii.gz")]
        page = archive.read("cohort.html").decode()
    assert len(masks) == 6 and [row["state"] for row in rows].count("failed") == 1
    sheet = tmp_path / "cohort.html"
    sheet.write_text(page)
    user.page.goto(sheet.as_uri())
    expect(user.page.get_by_role("img")).to_have_count(6)
    expect(user.page.get_by_role("heading", name="Cohort of 7 scans")).to_be_visible()


def labels(user) -> list[str]:
    return user.main.get_by_test_id("stMetricLabel").all_inner_texts()


def values(user) -> list[str]:
    return user.main.get_by_test_id("stMetricValue").all_inner_texts()
