"""Expected Dice on the pages. What a user loses otherwise: to know which masks to look at, without a true one."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest
from chests import grey, save_scan
from cohorts import Here
from ensembles import ensemble, hazy, hazy_cases
from fakeruns import save_model
from streamlit.testing.v1 import AppTest

from covseg_core.evaluation.comparison import evaluate
from covseg_core.evaluation.expected_quality import measure_quality
from covseg_core.prediction.cohort import predict as cohort_module
from covseg_core.prediction.cohort.dataset import dataset_of_cohort
from covseg_core.prediction.cohort.predict import predict_cohort
from covseg_core.prediction.expected_dice import stored_quality
from covseg_core.prediction.predict import predict
from covseg_core.prediction.request import asked_for
from covseg_core.runs import Run
from dashboard.app_pages.compare import expected_quality
from dashboard.app_pages.predict import cohort_table, result_figures
from dashboard.app_pages.review import order

MEASURE = "Measure what agreement means"


@pytest.fixture
def members(tmp_path: Path) -> list[Run]:
    return ensemble(hazy_cases(tmp_path / "in"))


def opened() -> AppTest:
    return pages.open_page("compare", {expected_quality.OPEN: True}, tab="Statistics")


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def test_one_click_measures_and_what_was_measured_is_drawn_until_a_model_changes(members: list[Run]) -> None:
    evaluate(members)
    app = opened()
    assert any("How far the seeds agree on a scan" in text.value for text in app.markdown)
    next(button for button in app.button if button.label == MEASURE).click().run()
    task = pages.wait(app)
    assert task.state == "finished", task.error
    app = opened()
    assert MEASURE not in labels(app)
    found = stored_quality(members)
    assert found is not None and not found.refused
    assert any(f"The interval reaches {found.margin:.2f} to either side" in text.value for text in app.markdown)
    assert any("Reviewed in the order of expected Dice" in text.value for text in app.markdown)
    assert {"Dice at 0% reviewed", "Dice at 46% reviewed"} <= {metric.label for metric in app.metric}
    assert any("on 7 scans of validation" in text.value.lower() for text in app.caption)
    assert len(app.get("plotly_chart")) == 2
    save_model(members[2].onnx, grey(95.5), 48)
    evaluate(members)
    app = opened()
    assert MEASURE in labels(app)
    assert any("has changed since it was measured" in text.value for text in app.caption)


def test_where_it_is_refused_the_reason_stands_there_and_no_curve(tmp_path: Path) -> None:
    members = ensemble(hazy_cases(tmp_path / "in", honest=False))
    evaluate(members)
    measure_quality([tuple(members)])
    app = opened()
    assert any("how far these models agree says no more about Dice" in text.value for text in app.markdown)
    assert len(app.get("plotly_chart")) == 1


def test_four_seeds_have_no_such_thing(tmp_path: Path) -> None:
    evaluate(ensemble(hazy_cases(tmp_path / "in"), members=4))
    assert not any("Expected Dice" in box.label for box in opened().expander)


def test_a_prediction_and_a_cohort_show_it_and_the_review_has_an_order_by_it(
    members: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "Worker", Here)
    (tmp_path / "scans").mkdir()
    for number, share in enumerate((0.8, 0.1), 1):
        save_scan(tmp_path / "scans" / f"scan{number}.nii.gz", hazy(share))
    scan = tmp_path / "scans" / "scan1.nii.gz"
    before = predict(scan, members).report
    assert "Expected Dice" not in result_figures.headline(before)
    assert not any("xpected Dice" in line for line in result_figures.explained(before))
    measure_quality([tuple(members)])
    report = predict(scan, members).report
    assert report.expected_dice is not None
    assert result_figures.headline(report)["Expected Dice"] == report.expected_dice.words
    assert any(line.startswith("Expected Dice: what the agreement") for line in result_figures.explained(report))
    otherwise = predict(scan, members, threshold=0.3).report
    assert "Expected Dice" not in result_figures.headline(otherwise)
    assert any(
        "it was measured with the models at their operating points" in line
        for line in result_figures.explained(otherwise)
    )
    cohort = predict_cohort([tmp_path / "scans"], asked_for(members), tmp_path / "out")
    table = cohort_table.frame(cohort)
    assert table["Expected Dice"][0] == pytest.approx(report.expected_dice.value)
    assert table["Interval"][0] == report.expected_dice.interval
    assert any(line.startswith("Expected Dice: what") for line in cohort_table.explained(cohort))
    dataset_of_cohort(tmp_path / "out", "cohort")
    app = pages.open_page("review", {order.READER: "Ada"}, dataset="cohort")
    box = app.selectbox(key=order.ORDER)
    assert box.options[0] == "Lowest expected Dice first"
