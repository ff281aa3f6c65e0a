"""The leakage meter on the Compare page, in its states."""

from __future__ import annotations

from collections.abc import Callable

import pages
import pytest
from fakeruns import fake_folds, fake_run
from streamlit.testing.v1 import AppTest

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evaluation.studies.leakage import measure_leakage
from covseg_core.figures import leakage as similarity
from covseg_core.runs import Run
from dashboard.app_pages.compare import leakage_pairs
from dashboard.services import model_catalog

SHARES = (0.3, 0.2, 0.5)


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(10, 32)


@pytest.fixture
def by_patient(dataset: Dataset) -> Run:
    run = fake_run(dataset, "by-patient", "dice", SplitConfig("patient", SHARES), 20, experiment="by-patient")
    evaluate_run(run)
    return run


@pytest.fixture
def by_slice(dataset: Dataset) -> Run:
    return fake_run(dataset, "by-slice", "dice", SplitConfig("slice", SHARES), 110, experiment="by-slice")


def open_page(*runs: Run, opened: bool = True) -> AppTest:
    return pages.open_page(
        "compare", {"compare-leakage": opened}, tab="Statistics", runs=",".join(run.id for run in runs)
    )


def test_without_the_other_split_the_page_says_how_to_get_it(by_patient: Run) -> None:
    app = open_page(by_patient)
    assert any("covseg train phantoms --metric all --split both" in caption.value for caption in app.caption)


def test_the_gap_is_measured_by_one_click_and_stays(by_patient: Run, by_slice: Run) -> None:
    app = open_page(by_patient)
    [button] = [button for button in app.button if button.label == "Measure the leak"]
    button.click().run()
    task = pages.wait(app)
    assert task.state == "finished", task.error
    app = open_page(by_patient)
    assert not [button for button in app.button if button.label == "Measure the leak"]
    assert any("The split by slice " in text.value for text in app.markdown)
    [table] = [frame.value for frame in app.dataframe if "By slice" in frame.value.columns]
    assert table.set_index("").loc["Test slices next to a training slice", "By patient"] == "0%"
    assert any("32 x 32" in caption.value for caption in app.caption)


def test_figure_and_table_are_of_the_measurement(by_patient: Run, by_slice: Run) -> None:
    found = measure_leakage([by_patient], [by_slice])
    chart = similarity.figure(found)
    assert [len(trace.x) for trace in chart.data] == [found.by_patient.slices, found.by_slice.slices]
    assert chart.layout.yaxis.title.text == "Test slices [%]"
    gap = found.gaps["dice"].value
    assert gap is not None
    assert leakage_pairs.table(found).iloc[0]["Difference"].startswith(f"{gap:+.3f} [")


def test_only_what_differs_in_its_split_is_a_pair(dataset: Dataset, by_patient: Run, by_slice: Run) -> None:
    """Two models of other metrics or presets differ for other reasons."""
    fake_run(dataset, "other-metric", "iou", SplitConfig("slice", SHARES), 90, experiment="a")
    fake_run(dataset, "other-preset", "dice", SplitConfig("slice", SHARES), 90, experiment="b", preset="paper")
    fake_folds(dataset, {"dice": 90}, 3, "slice", experiment="folds")
    models = model_catalog.finished_models()
    assert [pair.id for pair in leakage_pairs.pairs(models, [by_patient])] == ["by-patient by-slice"]
    assert [pair.id for pair in leakage_pairs.pairs(models, [by_slice])] == ["by-patient by-slice"]
    fake_folds(dataset, {"dice": 90}, 3, "patient", experiment="honest")
    models = model_catalog.finished_models()
    [folds] = [one for one in models if one.id == "honest-dice"]
    [pair] = leakage_pairs.pairs(models, [folds])
    assert pair.id == "honest-dice folds-dice"
    assert [len(runs) for runs in pair.runs] == [3, 3]
