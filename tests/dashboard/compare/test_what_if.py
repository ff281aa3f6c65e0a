"""The panels below the slices of the Compare page, without a browser, on models whose answers are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pages
import pandas as pd
import pytest
from fakeruns import fake_folds, fake_run
from likeness import save_likeness
from streamlit.testing.v1 import AppTest

from covseg_core.config import Metric, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.evaluation.cross_validation.evaluate import evaluate_folds
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.model import single_runs
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.stored_predictions.calibration import histogram, precision_recall, reliability
from covseg_core.evaluation.stored_predictions.operating_point_search import choose_point
from covseg_core.evaluation.stored_predictions.scans import scans_of_test
from covseg_core.evaluation.stored_predictions.thresholds import WhatIf
from covseg_core.figures.calibration import precision_recall_figure
from covseg_core.files import read_json, write_json
from covseg_core.prediction.masks.disagreement import disagreement
from covseg_core.runs import Run
from covseg_core.runs.operating_point import FILE, OperatingPoint, read_point
from dashboard.app_pages.compare import calibration, slices, what_if
from dashboard.components import slice_viewer

SIZE = 32
WIDTHS: dict[Metric, float] = {"iou": 80, "dice": 110}


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def runs(dataset: Dataset) -> list[Run]:
    """Two models with soft answers, scored."""
    split = SplitConfig(fractions=(0.2, 0.4, 0.4))
    made = [fake_run(dataset, f"experiment-{metric}", metric, split, 90) for metric in WIDTHS]
    for run, width in zip(made, WIDTHS.values(), strict=True):
        save_likeness(run.onnx, SIZE, width)
    evaluate_runs(made)
    return made


def open_page(*panels: str) -> AppTest:
    """The Compare page with these expanders open."""
    return pages.open_page("compare", dict.fromkeys(panels, True), tab="Failures")


def well(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    assert not app.error, app.error
    return app


def table(app: AppTest, column: str) -> pd.DataFrame:
    """The first table that has a column."""
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def model_of(run: Run) -> WhatIf:
    return WhatIf(scans_of_test(run, evaluation_of(run)))


def evaluation_of(run: Run) -> Evaluation:
    return read_json(run.evaluation, Evaluation)


def test_nothing_is_computed_until_a_panel_is_opened(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise everybody waits, on every visit, for what few look at."""

    def never(*_: object) -> None:
        raise AssertionError("computed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dashboard.app_pages.compare.stored_predictions.scans_of_test", never)
        assert not pages.open_page("compare").expander, "the summary needs no predictions"
    monkeypatch.setattr("dashboard.app_pages.compare.stored_predictions.what_ifs", never)
    monkeypatch.setattr("dashboard.app_pages.compare.calibration._curves_of", never)
    labels = [box.label for box in pages.open_page("compare", tab="Failures").expander]
    assert "What if: another threshold, small or faint lesions left out" in labels
    assert "Calibration and precision-recall" in labels


def test_the_table_follows_the_sliders(runs: list[Run]) -> None:
    app = open_page(what_if.OPEN)
    assert any(what_if.WARNING in text.value for text in app.markdown)
    app.slider(key="whatif-threshold").set_value(0.75).run()
    app.slider(key="whatif-minimum").set_value(100).run()
    app.select_slider(key="whatif-peak").set_value(0.95).run()
    dice = table(well(app), "At the sliders")
    for row, run in enumerate(runs):
        expected = model_of(run)
        assert dice["At the sliders"][row] == expected.at(0.75, 100, 0.95).over_scans["dice"].mean
        assert dice["0.5, network's grid"][row] == expected.at(0.5).over_scans["dice"].mean
        assert dice["As evaluated"][row] == evaluation_of(run).model.over_scans["dice"].mean
    assert any("only the grid differs" in caption.value for caption in app.caption)
    assert not any((run.folder / FILE).exists() for run in runs), "exploring stores nothing"


def test_a_point_is_picked_on_validation_and_scored_on_test(runs: list[Run]) -> None:
    app = open_page(what_if.OPEN)
    press = "Choose on validation"
    next(button for button in app.button if button.label == press).click().run()
    assert "on which a point can be the best by chance" in pages.wait(app).error
    app.checkbox(key="few-scans").check()
    next(button for button in well(app.run()).button if button.label == press).click().run()
    assert pages.wait(app).state == "finished"
    app = open_page(what_if.OPEN)
    shown = table(app, "Test at the point")
    for row, run in enumerate(runs):
        point = read_json(run.folder / FILE, OperatingPoint)
        assert point.chosen_on == "validation"
        used = [shown[column][row] for column in ("Threshold", "Smallest lesion [mm³]", "Peak")]
        assert used == [point.threshold, point.minimum, point.peak]
        assert shown["Validation at the point"][row] == point.score
        expected = model_of(run).at(point.threshold, point.minimum, point.peak)
        assert shown["Test at the point"][row] == expected.over_scans["dice"].mean
    app.button(key="forget-points").click().run()
    assert not any(read_point(run) for run in runs)
    assert any("None is stored yet" in caption.value for caption in well(app).caption)


def test_calibration_and_precision_recall_are_those_of_the_stored_probabilities(runs: list[Run]) -> None:
    app = open_page(calibration.OPEN)
    shown = table(app, "Average precision")
    assert list(shown["Model"]) == ["A · IoU", "B · Dice"]
    for row, run in enumerate(runs):
        counts = histogram(scans_of_test(run, evaluation_of(run)))
        assert shown["Average precision"][row] == precision_recall(counts).average
        assert shown["ECE"][row] == reliability(counts).ece
        assert shown["Voxels in the lowest bin [%]"][row] == 100 * reliability(counts).share[0]
    assert len(app.get("plotly_chart")) == len(open_page().get("plotly_chart")) + 2


def test_the_star_is_the_point_of_the_table(runs: list[Run]) -> None:
    """The curve and the table must not tell two stories."""
    run, pooled = runs[0], model_of(runs[0]).at(0.5).pooled
    curve = precision_recall(histogram(scans_of_test(run, evaluation_of(run))))
    star = next(trace for trace in precision_recall_figure({"A": curve}, 0.5).data if trace.mode == "markers")
    assert star.x[0] == pytest.approx(pooled["sensitivity"])
    assert star.y[0] == pytest.approx(pooled["precision"])


def test_the_slices_show_where_models_disagree(runs: list[Run], dataset: Dataset) -> None:
    case = dataset.case(next(iter(runs[0].split.test)))
    scene = slice_viewer.scene_of_case(dataset, case, single_runs(runs))
    compared = slices._compared(scene, ["A", "B"])
    assert [layer.name for layer in compared.layers] == ["A", "B"]
    planes = [layer.plane(4) for layer in scene.layers]
    assert compared.heat is not None
    np.testing.assert_array_equal(compared.heat(4), disagreement(planes))
    assert compared.heat(4).max() > 0.1
    for layer, plane in zip(compared.layers, planes, strict=True):
        np.testing.assert_array_equal(layer.plane(4), plane)
    alone = slice_viewer.scene_of_case(dataset, case, single_runs(runs[:1]))
    assert slices._compared(alone, ["A"]).heat is None
    app = pages.open_page("compare", tab="Slices")
    captions = [image.caption for element in app.get("image") for image in element.proto.imgs]
    assert captions[:2] == ["CT", "True mask"] and "Disagreement" in captions
    assert any(slice_viewer.HEAT in caption.value for caption in app.caption)
    app.multiselect[0].set_value([runs[0].id]).run()
    assert not any(slice_viewer.HEAT in caption.value for caption in well(app).caption)


@pytest.mark.parametrize("kind", ["patient", "slice"])
def test_folds_are_explored_together_and_have_a_point_each(dataset: Dataset, kind: str) -> None:
    runs = fake_folds(dataset, {"dice": 90}, 2, kind)
    for run in runs:
        save_likeness(run.onnx, SIZE)
    comparison = evaluate_folds(runs)
    for run in runs:
        choose_point(run, few=True)
    app = open_page(what_if.OPEN)
    dice = table(app, "At the sliders")
    merged = comparison.evaluations[0].model.over_scans["dice"].mean
    assert dice["As evaluated"][0] == pytest.approx(merged)
    assert dice["At the sliders"][0] == pytest.approx(merged, abs=0.05)
    assert list(table(app, "Test at the point")["Model"]) == ["A · Dice, fold 1", "A · Dice, fold 2"]


def test_predictions_that_do_not_fit_are_an_error_in_words(runs: list[Run]) -> None:
    runs[0].test_predictions.unlink()
    app = open_page(what_if.OPEN)
    assert any("test_predictions.npy" in error.value for error in app.error)


def test_a_point_of_the_model_before_is_not_shown(runs: list[Run]) -> None:
    write_json(runs[0].folder / FILE, dataclasses.replace(choose_point(runs[0], few=True), model_sha256="0" * 64))
    app = open_page(what_if.OPEN)
    assert any("None is stored yet" in caption.value for caption in app.caption)
