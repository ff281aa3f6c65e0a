"""All folds in one table. What a user loses otherwise: scores over everybody that are not those of the masks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from click.testing import CliRunner
from fakeruns import SIZE, fake_folds, fake_run, save_model

from covseg_core.cli import cli
from covseg_core.config import METRICS, Metric, PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset, dataset_folder, load_dataset
from covseg_core.data.reading.volumes import load_mask
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.slices import to_native
from covseg_core.errors import RunError
from covseg_core.evaluation import wording
from covseg_core.evaluation.cross_validation.evaluate import evaluate_folds
from covseg_core.evaluation.cross_validation.folds import of_several_folds
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evaluation.grouping import finished_models
from covseg_core.evaluation.measures import Counts, count, overlap, surface_measures
from covseg_core.evaluation.scores import ScanScore
from covseg_core.evaluation.significance.verdict import verdict
from covseg_core.files import write_json
from covseg_core.runs import Run, delete_run

LIMITS: dict[Metric, float] = {"iou": 90, "dice": 120}


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(6)


@pytest.fixture
def folds(dataset: Dataset) -> list[Run]:
    return fake_folds(dataset, LIMITS, 3)


def by_hand(dataset: Dataset, id: str, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction for a whole scan, the slow and obvious way."""
    case, prepare = dataset.case(id), PrepareConfig(size=SIZE)
    probabilities = (prepared(dataset, case, prepare, "images") > limit).astype(np.float32)
    return load_mask(dataset.path(case, "infection")).voxels > 0, to_native(
        probabilities, case_grid(dataset, case, prepare)
    ) >= 0.5


def test_scores_over_all_folds_are_those_of_every_scan_by_the_model_that_has_not_seen_it(
    dataset: Dataset, folds: list[Run]
) -> None:
    comparison = evaluate_folds(folds)
    assert [one.run for one in comparison.evaluations] == ["experiment-iou", "experiment-dice"]
    for evaluation in comparison.evaluations:
        assert (evaluation.scans, evaluation.patients, evaluation.slices, evaluation.folds) == (6, 6, 48, 3)
        assert not evaluation.leaky
        pairs = {}
        for run in folds:
            if run.config.metric == evaluation.metric:
                limit = LIMITS[evaluation.metric] + 5 * run.config.split.fold
                pairs |= {id: by_hand(dataset, id, limit) for id in run.split.test}
        assert (
            [scan.case for scan in evaluation.model.scans] == sorted(pairs) == sorted(case.id for case in dataset.cases)
        )
        for scan in evaluation.model.scans:
            values = overlap(count(*pairs[scan.case])) | surface_measures(
                *pairs[scan.case], dataset.case(scan.case).spacing
            )
            for measure in ("dice", "hd95", "specificity"):
                assert scan.values[measure] == (None if np.isnan(values[measure]) else pytest.approx(values[measure]))
        pooled = sum((count(*pair) for pair in pairs.values()), Counts())
        assert evaluation.model.pooled["dice"] == pytest.approx(overlap(pooled)["dice"])
        assert evaluation.model.over_slices["accuracy"].n == 48
        assert (evaluation.training_seconds, evaluation.epochs) == (360.0, 6)
        assert evaluation.baselines == comparison.baselines
    background = comparison.baselines[0].pooled
    assert background["dice"] == 0
    assert "Every patient is tested once" in comparison.evaluations[0].notes[0]
    assert "(3 folds)" in comparison.evaluations[0].notes[0]
    assert not any("Only" in note for note in comparison.evaluations[0].notes), "six patients are not two"
    assert "split by patient, 3 folds" in wording.header(comparison)


def test_own_scores_are_pooled_and_not_averaged(dataset: Dataset, folds: list[Run]) -> None:
    """A fold with hardly a lesion would weigh as much as one full of them."""
    own = evaluate_folds(folds).evaluations[1].own
    test = learned = Counts()
    for run in folds[1::2]:
        limit = 120 + 5 * run.config.split.fold
        for part in ("train", "validation", "test"):
            for id in run.split.part(part):  # type: ignore[arg-type]
                case = dataset.case(id)
                masks = prepared(dataset, case, run.config.prepare, "infection")
                counts = count(masks, prepared(dataset, case, run.config.prepare, "images") > limit)
                test, learned = (test + counts, learned) if part == "test" else (test, learned + counts)
    assert own.test == pytest.approx(overlap(test)["dice"])
    assert own.train_validation == pytest.approx(overlap(learned)["dice"])


def test_every_row_of_the_metrics_can_be_trained_in_folds(dataset: Dataset) -> None:
    """`combined` is scored by Dice: it is the name of no measure."""
    limits = dict.fromkeys(METRICS, 100.0)
    comparison = evaluate_folds(fake_folds(dataset, limits, 2, experiment="rows"))
    own = {evaluation.metric: evaluation.own.test for evaluation in comparison.evaluations}
    assert list(own) == list(METRICS)
    assert own["combined"] == own["dice"] != own["iou"]


def test_each_run_holds_its_own_evaluation_and_is_not_scored_twice(
    folds: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    first = evaluate_folds(folds, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (48, 48), "a full bar, and only at the end"
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(run.evaluation.exists() and run.test_predictions.exists() for run in folds)

    def again(*args: object) -> None:
        raise AssertionError("it is known")

    monkeypatch.setattr("covseg_core.evaluation.cross_validation.evaluate.evaluate_runs", again)
    second = evaluate_folds(folds)
    assert [one.model for one in second.evaluations] == [one.model for one in first.evaluations]
    assert evaluate_folds(folds, "one").evaluations[0].model.over_slices["dice"].n == 48
    save_model(folds[0].onnx, 200)
    with pytest.raises(AssertionError):
        evaluate_folds(folds)


def test_folds_that_not_all_models_have_finished_are_left_out_and_named(folds: list[Run]) -> None:
    """Otherwise one model is compared on easy patients and the other on hard ones."""
    folds[3].write_status(dataclasses.replace(folds[3].status, state="stopped"))
    comparison = evaluate_folds(folds)
    tested = {id for run in (folds[0], folds[4]) for id in run.split.test}
    for evaluation in comparison.evaluations:
        assert {scan.case for scan in evaluation.model.scans} == tested
        assert evaluation.folds == 2
        assert "Only 2 of 3 folds are finished for all models (1, 3)" in evaluation.notes[0]
    folds[1].write_status(dataclasses.replace(folds[1].status, state="failed"))
    folds[5].write_status(dataclasses.replace(folds[5].status, state="failed"))
    assert [one.id for one in finished_models(folds)] == ["experiment-iou"], "a model without any fold is no model"
    delete_run(folds[5])
    assert len(finished_models(folds[:1])) == 1
    for run in (folds[0], folds[2], folds[4]):
        run.write_status(dataclasses.replace(run.status, state="failed"))
    with pytest.raises(RunError, match="no fold is finished"):
        evaluate_folds(folds[:5])


def test_a_scan_whose_slices_lie_in_several_folds_has_no_surface_measures(dataset: Dataset) -> None:
    comparison = evaluate_folds(fake_folds(dataset, {"dice": 100}, 3, "slice"))
    [evaluation] = comparison.evaluations
    assert evaluation.leaky
    assert (evaluation.scans, evaluation.slices) == (6, 48)
    for scan in evaluation.model.scans:
        rows = [row for row in evaluation.model.slices if row.case == scan.case]
        assert [row.z for row in rows] == list(range(8))
        assert scan.counts == sum((row.counts for row in rows), Counts())
        assert scan.values["hd95"] is None and not scan.whole
        if scan.counts.truth:
            assert scan.values["dice"] == pytest.approx(overlap(scan.counts)["dice"])


def test_folds_with_and_without_voxel_sizes_are_put_together_in_voxels(dataset: Dataset) -> None:
    """Millimetres of one fold and pixels of another have no mean."""
    first = fake_folds(dataset, {"dice": 100}, 3)
    unknown = next(iter(first[0].split.test))
    for run in first:
        delete_run(run)
    cases = [dataclasses.replace(case, spacing_known=case.id != unknown) for case in dataset.cases]
    write_json(dataset_folder(dataset.name) / "dataset.json", dataclasses.replace(dataset, cases=tuple(cases)))
    [evaluation] = evaluate_folds(fake_folds(load_dataset(dataset.name), {"dice": 100}, 3)).evaluations
    assert evaluation.units == {"distance": "px", "volume": "voxels"}
    assert not evaluation.spacing_known
    assert "hd95" not in evaluation.model.over_scans and "hd95" not in evaluation.model.over_slices
    assert evaluation.model.pooled["volume_difference"] == sum(
        score.counts.fp - score.counts.fn for score in evaluation.model.slices
    )
    assert any("Voxel size is unknown in some folds" in note for note in evaluation.notes)


def test_what_each_fold_says_of_its_scans_is_said_once_of_all(dataset: Dataset) -> None:
    """Five notes of three scans each hide the one that matters."""
    cases = tuple(dataclasses.replace(case, spacing_known=False) for case in dataset.cases)
    write_json(dataset_folder(dataset.name) / "dataset.json", dataclasses.replace(dataset, cases=cases))
    [evaluation] = evaluate_folds(fake_folds(load_dataset(dataset.name), {"dice": 100}, 3)).evaluations
    assert sum("Voxel size unknown" in note for note in evaluation.notes) == 1
    [leaky] = evaluate_folds(
        fake_folds(load_dataset(dataset.name), {"dice": 100}, 3, "slice", experiment="b")
    ).evaluations
    assert [note for note in leaky.notes if "No HD95" in note] == [
        "No HD95 and NSD per scan for 6 of 6 scans: unrelated slices, or in several folds."
    ]


def test_a_verdict_is_over_the_patients_of_all_folds(folds: list[Run]) -> None:
    """What cross-validation is for: six patients can tell what two cannot."""
    found = verdict(evaluate_folds(folds))
    assert [pair.patients for pair in found.pairs] == [
        sum(difference is not None for difference in found.pairs[0].differences)
    ]
    assert len(found.pairs[0].differences) == 6


def test_what_are_no_folds_of_one_deal_is_refused(dataset: Dataset, folds: list[Run]) -> None:
    single = fake_run(dataset, "single", "dice", SplitConfig(), 90)
    other = fake_folds(dataset, {"dice": 90}, 2, experiment="other")
    assert of_several_folds(folds) and of_several_folds(other)
    assert not of_several_folds(folds[:2]), "one fold is compared as any runs are"
    assert not of_several_folds([*folds, single])
    for runs in ([*folds, single], [*folds, *other], []):
        with pytest.raises(RunError, match="not folds of one cross-validation"):
            evaluate_folds(runs)


def test_two_experiments_of_the_same_folds_stand_in_one_table(dataset: Dataset, folds: list[Run]) -> None:
    other = fake_folds(dataset, {"dice": 60}, 3, experiment="other")
    comparison = evaluate_folds([*folds, *other])
    assert [one.run for one in comparison.evaluations] == ["experiment-iou", "experiment-dice", "other-dice"]


def test_the_command_line_takes_the_experiment_or_all_its_runs(folds: list[Run]) -> None:
    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["evaluate", *arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    assert "n = 48 slices" in invoke("experiment")
    whole = json.loads(invoke("experiment", "--json"))
    assert [one["run"] for one in whole["evaluations"]] == ["experiment-iou", "experiment-dice"]
    assert (
        json.loads(invoke(*(run.id for run in folds), "--json"))["evaluations"][0]["model"]
        == (whole["evaluations"][0]["model"])
    )
    assert "n = 16 slices" in invoke(folds[0].id, folds[1].id)


def test_scans_stay_what_they_were_where_one_fold_has_them(folds: list[Run]) -> None:
    scans: dict[str, ScanScore] = {}
    for run in folds[::2]:
        scans |= {scan.case: scan for scan in evaluate_run(run).model.scans}
    assert {scan.case: scan for scan in evaluate_folds(folds).evaluations[0].model.scans} == scans
