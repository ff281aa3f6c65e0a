"""The failure gallery of the Compare page. What a user loses otherwise: the way from a number to what went wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pages
import pytest
from fakeruns import fake_run
from likeness import save_likeness
from streamlit.testing.v1 import AppTest

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.model import SingleRun
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_predictions.lesions import Item, find_lesions
from covseg_core.evaluation.stored_predictions.scans import scans_of_test
from covseg_core.files import write_json
from covseg_core.rendering import JPEG_MAGIC
from covseg_core.runs import Run
from dashboard.app_pages.compare import failure_pictures, failures, slices

SIZE = 48


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def scored(dataset: Dataset) -> tuple[list[Run], Comparison]:
    """One model with soft answers, another one that marks bright tissue."""
    split, runs = SplitConfig(fractions=(0.2, 0.4, 0.4)), []
    for metric, width in (("iou", 60.0), ("dice", 20.0)):
        run = fake_run(dataset, f"experiment-{metric}", metric, split, 90)  # type: ignore[arg-type]
        config = dataclasses.replace(run.config, prepare=dataclasses.replace(run.config.prepare, size=SIZE))
        write_json(run.folder / "config.json", config)
        save_likeness(run.onnx, SIZE, width)
        runs.append(run)
    return runs, evaluate_runs(runs)


def open_page() -> AppTest:
    """The Compare page with the gallery open."""
    app = pages.open_page("compare", {failures.OPEN: True}, tab="Failures")
    assert not app.error, app.error
    return app


def test_the_table_says_what_each_model_found(scored: tuple[list[Run], Comparison]) -> None:
    runs, comparison = scored
    app = open_page()
    [table] = [frame.value for frame in app.dataframe if "Size" in frame.value.columns]
    assert list(table["Size"]) == ["below 0.1 mL", "0.1 to 1 mL", "1 to 10 mL", "10 mL or more", "All"]
    for name, run, evaluation in zip(("A · IoU", "B · Dice"), runs, comparison.evaluations, strict=True):
        total = find_lesions(scans_of_test(run, evaluation)).classes()[-1]
        assert table[f"{name}: found"].iloc[-1].startswith(f"{total.found} of {total.lesions} (")
        assert table[f"{name}: false alarms"].iloc[-1].startswith(f"{total.false:,} (")
    assert any("at least 10% of it is marked at threshold 0.5" in caption.value for caption in app.caption)


def test_a_picture_leads_to_its_slice(scored: tuple[list[Run], Comparison]) -> None:
    runs, comparison = scored
    app = open_page()
    found = failure_pictures.lesions(SingleRun(runs[0]), comparison.evaluations[0])
    app.button_group(key="gallery-kind").set_value("false").run()
    items = found.worst("false")
    number = len(items[: failures.PAGE]) - 1
    app.button(key=f"gallery-go-{number}").click().run()
    assert not app.exception, app.exception
    assert app.selectbox(key=slices.CASE).value == items[number].case
    assert app.select_slider(key="slice").value == items[number].z
    assert app.session_state["tab"] == "Slices"


def test_there_are_at_most_twelve_pictures_at_a_time(scored: tuple[list[Run], Comparison]) -> None:
    app = open_page()
    for kind in failure_pictures.KINDS:
        app.button_group(key="gallery-kind").set_value(kind).run()
        assert not app.exception, app.exception
        buttons = [button for button in app.button if (button.key or "").startswith("gallery-go-")]
        found = failure_pictures.lesions(SingleRun(scored[0][0]), scored[1].evaluations[0]).worst(kind)
        assert len(buttons) == min(len(found), failures.PAGE)


def test_the_picture_is_of_the_item(scored: tuple[list[Run], Comparison], dataset: Dataset) -> None:
    """Cut out around it, with the missed lesion in the colour of what was missed."""
    runs, comparison = scored
    run, evaluation = runs[1], comparison.evaluations[1]
    scan = next(scan for scan in scans_of_test(run, evaluation) if scan.truth.any())
    row = int(np.argmax(scan.truth.sum(axis=(1, 2))))
    rows, columns = np.nonzero(scan.truth[row])
    box = (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max()))
    item = Item(scan.case.id, scan.zs[row], 1.0, 0.0, box)
    content = failure_pictures.picture(SingleRun(run), evaluation, item)
    assert content.startswith(JPEG_MAGIC)
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    coloured = np.abs(picture - picture.mean(axis=2, keepdims=True)).max(axis=2) > 40
    height, width = coloured.shape
    inner = coloured[height // 8 : -height // 8, width // 8 : -width // 8]
    assert inner.sum() > 0.5 * coloured.sum() > 0, "the outline is in the middle of the picture"


@pytest.mark.parametrize(
    ("box", "shape"), [((0, 0, 0, 0), (48, 48)), ((40, 47, 1, 3), (48, 32)), ((0, 47, 0, 47), (48, 48))]
)
def test_a_picture_stays_on_the_slice(box: tuple[int, int, int, int], shape: tuple[int, int]) -> None:
    rows, columns = failure_pictures._square(box, shape)
    for place, low, high, length in zip((rows, columns), box[::2], box[1::2], shape, strict=True):
        assert 0 <= place.start <= low <= high < place.stop <= length
