"""Tables of the Compare page. What a user loses otherwise: an honest reading of which model is better."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import pandas as pd
import pytest
import scored
from scored import comparison

from covseg_core.config import METRICS, Metric, RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation import comparable, data_frames, wording
from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.model import Model, single_runs
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.stored_predictions import slice_ranking
from covseg_core.figures import scans
from covseg_core.files import write_json
from covseg_core.runs import Run, State, create_run
from dashboard.app_pages.compare import export_files, score_table
from dashboard.services import model_catalog

EMPTY = Counts(tn=100)
RIGHT = Counts(tp=10, tn=90)
HALF = Counts(tp=10, fp=10, fn=10, tn=70)
WRONG = Counts(fp=5, fn=10, tn=85)
INVENTED = Counts(fp=5, tn=95)


def rows(*counts: Counts) -> list[scored.Row]:
    """Scans of two slices each, of a patient each: `a` with the first two counts, `b` with the next two, ..."""
    return [(f"p{scan}", scan, one) for scan, one in zip("aabbccdd", counts, strict=False)]


def evaluation(metric: Metric, *counts: Counts, **changes: Any) -> Evaluation:
    """Of scans whose spacing is not known."""
    units = {"distance": "px", "volume": "voxels"}
    notes = ("Only 2 patients: differences between models may well be chance.",)
    given = {"spacing_known": False, "units": units, "notes": notes, "predictions": "test_predictions.npy"} | changes
    return scored.evaluation(metric, rows(*counts), surfaces=False, **given)


@pytest.fixture
def two() -> Comparison:
    """The IoU model is right where it matters; the Dice model invents something on an empty slice."""
    return comparison(
        evaluation("iou", RIGHT, EMPTY, HALF, WRONG), evaluation("dice", HALF, INVENTED, HALF, Counts(fn=10, tn=90))
    )


def test_own_scores_say_which_metric_they_are_of(two: Comparison) -> None:
    table = data_frames.own_scores(two).set_index("Model")
    assert list(table.index) == ["A · IoU", "B · Dice"]
    assert list(table["Score"]) == ["IoU (foreground)", "Dice (foreground)"]
    assert list(table["Loss"]) == ["Binary cross-entropy", "Soft Dice"]
    assert list(table["Training [min]"]) == [1.5, 1.5]
    assert table["Train + validation"].isna().all(), "not 0: it could not be computed"


def test_every_metric_of_the_settings_has_words() -> None:
    for name, row in METRICS.items():
        assert row.name == name
        assert all((row.label, row.word, row.score_label, row.loss_label))


def test_models_and_baselines_stand_in_one_table(two: Comparison) -> None:
    table = score_table.score_table(two, "pooled").set_index("Measure")
    assert list(table.columns) == ["Best", "n", "A · IoU", "B · Dice", "Background"]
    assert list(table.loc["Dice (foreground)"]) == ["A", 4, f"{40 / 75:.4f}", f"{40 / 95:.4f}", "0.0000"]
    assert table.loc["Specificity", "Best"] == "Background", "a baseline that wins is said to win"
    assert "Volume difference in voxels" in table.index, "millilitres need a known voxel size"
    assert "HD95 in px" not in table.index, "no row that says none everywhere"


def test_what_is_undefined_says_so_and_is_not_blank() -> None:
    both = comparison(evaluation("iou", EMPTY, EMPTY), evaluation("dice", INVENTED, EMPTY))
    table = score_table.score_table(both, "pooled").set_index("Measure")
    assert list(table.loc["Dice (foreground)", ["A · IoU", "B · Dice"]]) == ["none", "0.0000"]


def test_means_over_different_slices_are_not_ranked(two: Comparison) -> None:
    """The model that marks a lesion-free slice has one Dice more, of 0: the means are of different things."""
    row = score_table.score_table(two, "slices").set_index("Measure").loc["Dice (foreground)"]
    assert row["n"] == 3
    assert row["A · IoU"] == "0.500 ± 0.500"
    assert row["B · Dice"] == "0.250 ± 0.289 (n 4)"
    assert row["Best"] == "n differs"
    alone = comparison(evaluation("iou", RIGHT, EMPTY), evaluation("dice", HALF, EMPTY))
    spoilt = dataclasses.replace(alone.evaluations[0], baselines=(scored.scores("lung", rows(INVENTED, INVENTED)),))
    row = score_table.score_table(comparison(spoilt, alone.evaluations[1]), "slices").set_index("Measure")
    assert list(row.loc["Dice (foreground)", ["n", "Lung", "Best"]]) == [1, "0.000 ± 0.000 (n 2)", "A"]
    scans = score_table.score_table(two, "scans").set_index("Measure").loc["Dice (foreground)"]
    assert (scans["n"], scans["Best"]) == (2, "A")


@pytest.mark.parametrize(
    ("measure", "values", "best"),
    [
        ("dice", {"A · IoU": 0.5, "B · Dice": 0.5, "Lung": 0.1}, "A, B"),
        ("dice", {"A · IoU": 0.5, "B · Dice": 0.5}, "all"),
        ("dice", {"A · IoU": 0.5}, "A"),
        ("hd95", {"A · IoU": 9.0, "B · Dice": 3.0, "Lung": None}, "B"),
        ("volume_difference", {"A · IoU": -30.0, "B · Dice": 20.0, "Lung": 100.0}, "B"),
    ],
)
def test_best_knows_which_way_is_up(measure: str, values: dict[str, float | None], best: str) -> None:
    assert score_table._best(measure, values) == best


def test_a_leak_is_called_one() -> None:
    leaky = comparison(evaluation("iou", RIGHT, HALF, leaky=True, split="slice", seen_patients=("pa",)))
    assert "LEAKY" in comparable.leak(leaky)
    assert "1 of 1 test patient," in comparable.leak(leaky)
    assert "LEAKY" in wording.header(leaky)
    assert comparable.leak(comparison(evaluation("iou", RIGHT))) == ""


def test_models_that_predict_the_same_are_no_mistake_of_the_table(two: Comparison) -> None:
    assert wording.same_models(two.evaluations) == ""
    same = comparison(
        evaluation("accuracy", RIGHT, HALF), evaluation("iou", RIGHT, HALF), evaluation("dice", HALF, HALF)
    )
    assert comparable.notes(same)[0].startswith("A, B predict the same: runs of one loss and one seed")
    silent = Counts(fn=10, tn=90)
    collapsed = [evaluation("accuracy", silent), evaluation("dice", silent)]
    assert "losses differ" in wording.same_models(collapsed), "then one loss cannot be why"


def test_the_same_score_is_not_the_same_prediction() -> None:
    """Two models that swap their good and bad slice have one pooled score, and differ everywhere."""
    swapped = [evaluation("accuracy", RIGHT, HALF), evaluation("iou", HALF, RIGHT)]
    assert swapped[0].model.pooled == swapped[1].model.pooled
    assert wording.same_models(swapped) == ""


def test_notes_of_several_models_are_told_once(two: Comparison) -> None:
    assert comparable.notes(two) == ["Only 2 patients: differences between models may well be chance."]


Make = Callable[..., Run]


@pytest.fixture
def make() -> Make:
    def run(id: str, experiment: str, metric: Metric, created: str, state: State = "finished") -> Run:
        config = RunConfig(
            id=id,
            experiment=experiment,
            dataset="ct20",
            fingerprint="f" * 64,
            metric=metric,
            preset="quick",
            created=f"2026-01-0{created}T03:04:05.000006+00:00",
        )
        made = create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
        made.write_status(dataclasses.replace(made.status, state=state))
        return made

    return run


def test_the_newest_whole_experiment_is_chosen_in_the_order_of_the_thesis(make: Make) -> None:
    for number, metric in enumerate(("dice", "accuracy", "iou")):
        make(f"old-{metric}", "old", metric, str(number + 1))  # type: ignore[arg-type]
    make("new-dice", "new", "dice", "8")
    make("new-iou", "new", "iou", "8", "failed")
    found = model_catalog.finished_runs()
    assert [one.run.id for one in found] == ["new-dice", "old-accuracy", "old-iou", "old-dice"]
    assert [one.id for one in model_catalog.newest(found)] == ["old-accuracy", "old-iou", "old-dice"]
    assert [one.id for one in model_catalog.newest(found[:1])] == ["new-dice"], "better than nothing"
    assert model_catalog.newest(found[:0]) == []


def test_a_broken_run_does_not_hide_the_others(make: Make) -> None:
    make("good", "one", "dice", "1")
    (make("bad", "two", "dice", "2").folder / "config.json").write_text("{")
    assert [one.run.id for one in model_catalog.finished_runs()] == ["good"]


def stored(runs: Sequence[Run], evaluations: Sequence[Evaluation]) -> list[Model]:
    """The runs as models, with these scores in their folders."""
    for run, one in zip(runs, evaluations, strict=True):
        write_json(run.evaluation, one)
    return single_runs(runs)


def test_stored_scores_are_shown_without_being_computed_again(make: Make) -> None:
    runs = [make("run-iou", "one", "iou", "1"), make("run-dice", "one", "dice", "1")]
    evaluations = [evaluation("iou", RIGHT), evaluation("dice", HALF)]
    found, why = comparable.compared(stored(runs, evaluations))
    assert why == ""
    assert found == comparison(*evaluations)


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "0" * 64},
        {"policy": "one"},
        {"threshold": 0.4},
        {"target": "lung"},
        {"units": {"distance": "mm", "volume": "mL"}},
        {"model": scored.scores("model", rows(RIGHT, RIGHT))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_scores_under_different_conditions_are_never_put_side_by_side(make: Make, changes: dict[str, object]) -> None:
    runs = [make("run-iou", "one", "iou", "1"), make("run-dice", "one", "dice", "1")]
    evaluations = [evaluation("iou", RIGHT), evaluation("dice", RIGHT, **changes)]
    found, why = comparable.compared(stored(runs, evaluations))
    assert found is None
    assert "run-iou and run-dice" in why


def test_missing_damaged_and_outdated_scores_are_asked_for(make: Make) -> None:
    run = make("run-iou", "one", "iou", "1")
    for content in ("", "{}", "{"):
        if content:
            run.evaluation.write_text(content)
        assert comparable.compared(single_runs([run])) == (None, "run-iou has not been scored yet.")
    run.onnx.write_bytes(b"other weights")
    found, why = comparable.compared(stored([run], [evaluation("iou", RIGHT)]))
    assert found is None
    assert "earlier model" in why


def test_jumps_lead_to_what_is_worth_a_look(two: Comparison) -> None:
    table = slice_ranking.slice_table(two)
    assert list(table.columns[:5]) == ["Scan", "Slice", "True infection [px]", "A · IoU", "B · Dice"]
    assert slice_ranking.ranked(table, "worst") == [("b", 1), ("a", 1), ("b", 0), ("a", 0)], (
        "of two zeros the one more wrong"
    )
    assert slice_ranking.ranked(table, "best") == [("a", 0), ("b", 0), ("b", 1)], "no lesion is no good example"
    disagreed = slice_ranking.ranked(table.assign(**{slice_ranking.DIFFERING: [0, 5, 7, 0]}), "disagreed")
    assert disagreed == [("b", 0), ("a", 1)], "slices on which all agree are no disagreement"


def test_slices_without_a_defined_dice_are_not_called_worst() -> None:
    table = slice_ranking.slice_table(comparison(evaluation("iou", EMPTY, RIGHT)))
    assert slice_ranking.ranked(table, "worst") == [("a", 1)]


def test_the_chart_shows_every_model_in_every_scan_and_the_baselines(two: Comparison) -> None:
    chart = scans.figure(two)
    traces = {trace.name: trace for trace in chart.data}
    assert set(traces) == {"A · IoU", "B · Dice", "Background", "Two radiologists, 0.70 ± 0.08"}
    assert list(chart.layout.yaxis.ticktext) == ["a", "b", "Mean of 2"]
    for name, predictor in wording.predictors(two).items():
        shown = [x for x in traces[name].x if x is not None]
        expected = [scan.values["dice"] for scan in predictor.scans] + [predictor.over_scans["dice"].mean]
        assert shown == (expected if name != "Background" else [x for x in expected for _ in "ab"])
    assert traces["A · IoU"].error_x.array[-1] == two.evaluations[0].model.over_scans["dice"].std
    heights = {trace.y[0] for trace in chart.data if trace.mode == "markers" and trace.y[0] is not None}
    assert len(heights) == 2, "models with one score would hide each other"


def test_radiologists_are_drawn_where_they_were_measured(two: Comparison) -> None:
    [band] = scans.figure(two).layout.shapes
    assert (band.x0, band.x1) == pytest.approx((0.62, 0.78))
    assert not scans.figure(two, "iou").layout.shapes
    lungs = [dataclasses.replace(one, target="lung") for one in two.evaluations]
    assert not scans.figure(dataclasses.replace(two, evaluations=tuple(lungs))).layout.shapes


def test_the_chart_says_which_scans_have_no_point() -> None:
    empty = comparison(evaluation("iou", EMPTY, EMPTY, RIGHT, RIGHT))
    assert scans.undefined(empty) == ["a"]
    assert scans.undefined(comparison(evaluation("iou", RIGHT, RIGHT))) == []


def test_the_figure_opens_without_the_internet(two: Comparison) -> None:
    page = scans.html(two).decode()
    assert "n = 4 slices" in page
    assert "Plotly.newPlot(" in page
    assert 'src="http' not in page


def test_exported_tables_hold_every_digit_and_every_n(two: Comparison) -> None:
    with zipfile.ZipFile(BytesIO(export_files.tables_zip(two))) as archive:
        assert sorted(archive.namelist()) == ["about.json", "own_metric.csv", "scans.csv", "scores.csv", "slices.csv"]
        long = pd.read_csv(archive.open("scores.csv")).set_index(["predictor", "level", "measure"])
        slices = pd.read_csv(archive.open("slices.csv"))
        about = json.loads(archive.read("about.json"))
    assert long.loc[("A · IoU", "pooled", "dice"), "value"] == two.evaluations[0].model.pooled["dice"]
    assert long.loc[("B · Dice", "slices", "dice"), "n"] == 4
    assert long.loc[("B · Dice", "slices", "hd95"), "n"] == 0
    assert long.loc[("Background", "scans", "volume_difference"), "unit"] == "voxels"
    assert len(slices) == 3 * 4
    assert about["runs"] == {"A · IoU": "run-iou", "B · Dice": "run-dice"}
    assert about["units"] == {"distance": "px", "volume": "voxels"}
    assert about["leaky"] is False
