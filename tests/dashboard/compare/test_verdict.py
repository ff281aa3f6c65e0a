"""The verdict on the Compare page: what is copied from it into a paper must be what the numbers allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pages
import pytest
from scored import by_patient, evaluation, of_dice
from streamlit.testing.v1 import AppTest

from covseg_core.config import Metric, RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.significance.verdict import verdict
from covseg_core.figures import differences
from covseg_core.files import write_json
from covseg_core.runs import create_run

BASE = np.linspace(0.5, 0.6, 9)
NAMES = ["A · Accuracy", "B · IoU", "C · Dice"]
GAP, CHART = "compare-verdict-measure", "compare-verdict-chart"

Store = Callable[[Comparison], None]


@pytest.fixture
def store() -> Store:
    """Put a comparison where the page looks for it: finished runs with their scores, whose dataset is gone."""

    def write(comparison: Comparison) -> None:
        for one in comparison.evaluations:
            config = RunConfig(
                id=one.run,
                experiment="one",
                dataset=one.dataset,
                fingerprint=one.fingerprint,
                metric=one.metric,
                preset="quick",
                created="2026-01-02T03:04:05.000006+00:00",
            )
            run = create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
            run.write_status(dataclasses.replace(run.status, state="finished"))
            write_json(run.evaluation, one)

    return write


def open_page(**query: str) -> AppTest:
    return pages.open_page("compare", **query)


def verdict_text(app: AppTest) -> str:
    return next(text.value for text in app.markdown if "model better than" in text.value or "told apart" in text.value)


def three(gain: float = 0.1) -> Comparison:
    steps = np.linspace(0.9, 1.1, 9)
    return by_patient({"accuracy": BASE, "iou": BASE, "dice": BASE + gain * steps})


def test_the_answer_is_given_in_words_and_numbers(store: Store) -> None:
    store(three())
    assert "- Dice model better than accuracy model by 0.10" in verdict_text(open_page()), "already in the summary"
    app = open_page(tab="Statistics")
    assert app.subheader[0].value == "Which model is better?"
    said = verdict_text(app)
    assert "- Accuracy and IoU model: the same predictions." in said
    assert "- Dice model better than accuracy model by 0.10 (0.09 to 0.11), n = 9 patients." in said
    table = app.dataframe[0].value.set_index("Pair")
    assert list(table.index) == ["A · Accuracy - B · IoU", "A · Accuracy - C · Dice", "B · IoU - C · Dice"]
    row = table.loc["A · Accuracy - C · Dice"]
    assert (row["Difference"], row["Patients"], row["p"]) == ("-0.1000", "9", f"{2 / 2**9:.4f}")
    assert row["Corrected p"] == f"{4 / 2**9:.4f}", "two pairs are tested"
    assert list(table.iloc[0])[1:5:2] == ["none", "none"], "the same predictions have nothing to test"
    assert any("2 comparisons (Holm)" in note.value for note in app.markdown)


def test_two_patients_name_no_winner(store: Store) -> None:
    store(by_patient({"accuracy": [0.2, 0.3], "dice": [0.8, 0.9]}))
    app = open_page(tab="Statistics")
    assert "Dice and accuracy model cannot be told apart: 2 test patients." in verdict_text(app)
    assert any("fewer than 6 patients" in note.value for note in app.markdown)


def test_another_measure_is_one_choice_away(store: Store) -> None:
    store(three())
    app = open_page(tab="Statistics")
    app.selectbox(key=GAP).set_value("iou").run()
    assert not app.exception
    [difference] = [pair.difference for pair in verdict(three(), "iou").pairs if pair.first + pair.second == "AC"]
    assert f"{difference:+.4f}" == app.dataframe[0].value["Difference"][1] != "-0.1000"


def test_a_leak_is_part_of_the_sentence(store: Store) -> None:
    store(by_patient({"accuracy": BASE, "dice": BASE + 0.1}, leaky=True, split="slice", seen_patients=("p0",)))
    assert "n = 9 patients, partly seen in training." in verdict_text(open_page())


def test_a_single_model_is_told_what_is_missing(store: Store) -> None:
    store(by_patient({"dice": BASE}))
    assert any("Choose a second model" in caption.value for caption in open_page().caption)


def test_models_that_are_all_the_same_get_no_empty_figure(store: Store) -> None:
    store(by_patient({"accuracy": BASE, "iou": BASE}))
    app = open_page()
    assert any("the same predictions" in text.value for text in app.markdown)
    assert len(app.dataframe) == 2
    assert not open_page(tab="Statistics").dataframe


@pytest.fixture
def empties() -> Comparison:
    """B finds more, A leaves the lesion-free slices of each patient clean."""
    rows: dict[Metric, list] = {"accuracy": [], "dice": []}
    for n in range(7):
        for metric, dice, empty in (("accuracy", 0.5, Counts(tn=100)), ("dice", 0.9, Counts(fp=1, tn=99))):
            rows[metric] += [(f"p{n}", f"s{n}", of_dice(dice))] * 2 + [(f"p{n}", f"s{n}", empty)]
    runs = tuple(evaluation(metric, slices) for metric, slices in rows.items())
    return Comparison("ct20", "test", False, runs)


def test_the_policy_is_applied_at_once_and_said_to_turn_the_order(store: Store, empties: Comparison) -> None:
    """Over slices A has 0.5 and B 0.6; counted as perfect, A has 0.67."""
    store(empties)
    app = open_page()
    [levels] = [group for group in app.button_group if group.label == "Scores taken together"]
    levels.set_value("slices").run()
    row = app.dataframe[1].value.set_index("Measure").loc["Dice (foreground)"]
    assert (row["A · Accuracy"], row["B · Dice"]) == ("0.500 ± 0.000", "0.600 ± 0.435 (n 21)")
    assert any("over slices (B > A if left out, A > B if counted as perfect)" in text.value for text in app.info)
    app.button_group(key="compare-policy").set_value("one").run()
    assert not app.exception
    row = app.dataframe[1].value.set_index("Measure").loc["Dice (foreground)"]
    assert (row["n"], row["A · Accuracy"], row["Best"]) == (21, "0.667 ± 0.242", "A")
    assert app.query_params["empty"] == "one", "the link reproduces the view"
    assert any("Dice is counted as perfect" in caption.value for caption in app.caption)


def test_a_link_brings_its_policy(store: Store, empties: Comparison) -> None:
    store(empties)
    app = open_page(empty="one")
    assert app.button_group(key="compare-policy").value == "one"
    assert open_page(empty="zero").button_group(key="compare-policy").value == "nan"


def test_without_a_change_of_order_nothing_is_said(store: Store) -> None:
    store(three())
    assert not any("changes the order" in text.value for text in open_page().info)


def test_the_two_ious_are_explained_where_they_stand(store: Store) -> None:
    store(three())
    assert any("background counts as a class" in " ".join(caption.value.split()) for caption in open_page().caption)


def test_the_figure_shows_every_patient_and_every_interval() -> None:
    found = verdict(three())
    chart = differences.figure(found, NAMES, "Dice")
    rings, means = chart.data[::2], chart.data[1::2]
    assert [len(trace.x) for trace in rings] == [9, 9, 9]
    for mean, pair in zip(means, found.pairs, strict=True):
        assert mean.x[0] == pair.difference
        if pair.low is not None and pair.high is not None:
            assert mean.x[0] + mean.error_x.array[0] == pytest.approx(pair.high)
            assert mean.x[0] - mean.error_x.arrayminus[0] == pytest.approx(pair.low)
    colours = [mean.marker.color for mean in means]
    assert colours[1] == colours[2] != colours[0], "the better model's; no colour for nobody"
    assert chart.layout.shapes[0].x0 == chart.layout.shapes[0].x1 == 0, "the line of no difference"
    assert chart.layout.yaxis.ticktext[1] == "A · Accuracy - C · Dice"


def test_few_patients_are_shown_without_an_interval() -> None:
    chart = differences.figure(verdict(by_patient({"iou": [0.5], "dice": [0.6]})), ["A · IoU", "B · Dice"], "Dice")
    assert chart.data[1].error_x.array is None
    assert list(chart.data[0].x) == pytest.approx([-0.1])
