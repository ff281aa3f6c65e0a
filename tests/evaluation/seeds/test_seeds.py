"""Several seeds as one model. What a user loses otherwise: to know how much of a score is luck."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from fakeruns import fake_folds, fake_run, fake_seeds, save_model

from covseg_core.cli import cli
from covseg_core.config import Metric, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation import comparable, data_frames, wording
from covseg_core.evaluation.comparison import evaluate, models_of
from covseg_core.evaluation.cross_validation.evaluate import evaluate_folds
from covseg_core.evaluation.empty_policy import order_change, with_policy
from covseg_core.evaluation.evaluate import evaluate_run, evaluate_runs
from covseg_core.evaluation.grouping import finished_models, of_several_seeds
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.seeds.over_seeds import own_spread, spread
from covseg_core.evaluation.significance.bootstrap import gap, score
from covseg_core.evaluation.significance.verdict import verdict
from covseg_core.evaluation.stored_predictions.predictions import read_predictions
from covseg_core.evaluation.studies.leakage import by_metric, measure_leakage
from covseg_core.evaluation.studies.source_drop import drops_of
from covseg_core.evaluation.studies.source_matrix import by_model
from covseg_core.evaluation.studies.source_shift import measure_shift, runs_by_model
from covseg_core.runs import Run

LIMITS: dict[Metric, float] = {"iou": 90, "dice": 120}


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(6)


@pytest.fixture
def seeds(dataset: Dataset) -> list[Run]:
    return fake_seeds(dataset, LIMITS, 3)


def of(runs: list[Run], metric: Metric) -> list[Run]:
    return [run for run in runs if run.config.metric == metric]


def end(run: Run, state: str) -> None:
    run.write_status(dataclasses.replace(run.status, state=state))  # type: ignore[arg-type]


def mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return pytest.approx(np.mean(defined)) if defined else None


def check_means(found: Evaluation, each: list[Evaluation]) -> None:
    """Every number is the mean of what each seed has by itself, and its spread is kept."""
    assert [seed.model for seed in found.seeds] == [one.model for one in each]
    for measure, value in found.model.pooled.items():
        values = [one.model.pooled[measure] for one in each]
        assert value == mean(values)
        if (summary := spread(found, measure, "pooled")) is not None:
            assert summary.n == sum(value is not None for value in values)
            assert summary.std == pytest.approx(np.std([v for v in values if v is not None], ddof=1))
    for rows, level in ((found.model.scans, "scans"), (found.model.slices, "slices")):
        for number, row in enumerate(rows):
            parts = [getattr(one.model, level)[number] for one in each]
            assert {part.case for part in parts} == {row.case}
            for measure, value in row.values.items():
                assert value == mean([part.values[measure] for part in parts]), (level, measure)
    assert found.model.over_scans["dice"].mean == pytest.approx(
        np.mean([scan.values["dice"] for scan in found.model.scans if scan.values["dice"] is not None])
    )
    assert found.own.test == mean([one.own.test for one in each])
    assert found.own.train_validation == mean([one.own.train_validation for one in each])
    assert own_spread(found).std == pytest.approx(np.std([one.own.test for one in each], ddof=1))  # type: ignore[union-attr]


def test_scores_are_means_of_what_every_seed_has_by_itself(seeds: list[Run]) -> None:
    comparison = evaluate(seeds)
    assert [one.run for one in comparison.evaluations] == ["experiment-iou", "experiment-dice"]
    for evaluation in comparison.evaluations:
        check_means(evaluation, [evaluate_run(run) for run in of(seeds, evaluation.metric)])
        assert (evaluation.training_seconds, evaluation.epochs) == (360.0, 6)
        assert [seed.number for seed in evaluation.seeds] == [1, 2, 3]
        assert evaluation.notes[-1].startswith("A model of 3 seeds was trained 3 times")
    assert [seed.seed for seed in comparison.evaluations[0].seeds] == [101, 102, 103]
    assert [seed.seed for seed in comparison.evaluations[1].seeds] == [201, 202, 203]
    assert comparison.baselines == evaluate_run(seeds[0]).baselines
    assert "; 3 seeds; " in wording.header(comparison)
    assert "3 seeds" not in wording.header(evaluate_runs(seeds[:2]))


def test_folds_of_each_seed_are_merged_first_and_then_the_seeds(dataset: Dataset) -> None:
    runs = fake_seeds(dataset, LIMITS, 2, folds=3)
    comparison = evaluate(runs)
    assert [one.run for one in comparison.evaluations] == ["experiment-iou", "experiment-dice"]
    by_seed = [evaluate_folds(runs[:6]), evaluate_folds(runs[6:])]
    assert [one.run for one in by_seed[1].evaluations] == ["experiment-iou-seed2of2", "experiment-dice-seed2of2"]
    for number, evaluation in enumerate(comparison.evaluations):
        check_means(evaluation, [each.evaluations[number] for each in by_seed])
        assert (evaluation.patients, evaluation.slices, evaluation.folds) == (6, 48, 3)
        assert "Every patient is tested once" in evaluation.notes[0]
    found = verdict(comparison)
    assert found.pairs[0].seeds == (2, 2)
    assert any("fold share its models" in note for note in found.notes)
    assert len(found.patients) == 6
    [model, _] = models_of(runs)
    assert (len(model.runs), model.folds, len(model.seeds)) == (6, (1, 2, 3), 2)
    assert len(model.predictions().values) == 48
    stored, why = comparable.compared(models_of(runs))
    assert why == "" and stored is not None
    assert [one.model for one in stored.evaluations] == [one.model for one in comparison.evaluations]


def test_seeds_that_are_not_finished_for_all_models_do_not_count_and_are_named(seeds: list[Run]) -> None:
    """Otherwise the mean of five is compared with that of two, and nobody knows."""
    end(seeds[3], "stopped")  # the second seed of Dice
    comparison = evaluate(seeds)
    for evaluation in comparison.evaluations:
        assert [seed.number for seed in evaluation.seeds] == [1, 3]
        assert evaluation.notes[-1] == ("Only 2 of 3 seeds count (1, 3), as given and finished for all models.")
    end(seeds[5], "failed")
    [one, _] = evaluate(seeds).evaluations
    assert one.notes[-1] == "Only 1 of 3 seeds counts (1), as given and finished for all models."
    assert one.model.pooled == pytest.approx(evaluate_run(seeds[0]).model.pooled, nan_ok=True)
    assert (spread(one, "dice", "pooled").n, spread(one, "dice", "pooled").std) == (1, None)  # type: ignore[union-attr]
    assert wording.over_seeds(spread(one, "dice", "pooled"), "dice") == ""
    assert (wording.seeds(evaluate(seeds)), wording.several_seeds(evaluate(seeds))) == ("1 seed", "")
    assert "over" not in verdict(evaluate(seeds)).pairs[0].sentence.partition("patients")[2].partition(".")[0]
    end(seeds[0], "lost")
    with pytest.raises(RunError, match="no seed is finished for all models"):
        evaluate(seeds)


def test_a_metric_that_has_not_begun_does_not_keep_the_others_from_being_compared(seeds: list[Run]) -> None:
    for run in of(seeds, "dice"):
        end(run, "queued")
    assert [model.id for model in finished_models(seeds)] == ["experiment-iou"]


def test_of_seeds_with_folds_those_count_that_have_finished_the_most(dataset: Dataset) -> None:
    """The first seed's cross-validation is whole while the second one trains: it can be read."""
    runs = fake_seeds(dataset, {"dice": 120}, 3, folds=3)
    end(runs[5], "running")  # the last fold of the second seed
    [model] = finished_models(runs)
    assert ([seed.id for seed in model.seeds], model.folds) == (
        ["experiment-dice-seed1of3", "experiment-dice-seed3of3"],
        (1, 2, 3),
    )
    for run in (runs[2], runs[8]):
        end(run, "stopped")
    [model] = finished_models(runs)
    assert (len(model.seeds), model.folds) == (3, (1, 2))


def test_what_is_scored_is_not_scored_again(seeds: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    first = evaluate(seeds, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] and steps == sorted(steps)

    def again(*args: object) -> None:
        raise AssertionError("it is known")

    monkeypatch.setattr("covseg_core.evaluation.cross_validation.evaluate.evaluate_runs", again)
    assert [one.model for one in evaluate(seeds).evaluations] == [one.model for one in first.evaluations]
    save_model(seeds[2].onnx, 200)
    with pytest.raises(AssertionError):
        evaluate(seeds)


def test_another_policy_is_the_mean_under_that_policy(seeds: list[Run]) -> None:
    """Dice of summed voxels is no mean of Dice."""
    other = with_policy(evaluate(seeds), "one")
    for evaluation in other.evaluations:
        check_means(evaluation, [evaluate_run(run, policy="one") for run in of(seeds, evaluation.metric)])
        assert evaluation.policy == "one"
    assert [one.model for one in evaluate(seeds, policy="one").evaluations] == [one.model for one in other.evaluations]
    assert isinstance(order_change(other), str)


def test_a_run_of_another_experiment_stands_beside_seeds(dataset: Dataset, seeds: list[Run]) -> None:
    single = fake_run(dataset, "single-dice", "dice", SplitConfig(), 100, experiment="single")
    comparison = evaluate([*seeds, single])
    assert [one.run for one in comparison.evaluations] == ["experiment-iou", "experiment-dice", "single-dice"]
    assert [len(one.seeds) for one in comparison.evaluations] == [3, 3, 0]
    assert wording.seeds(comparison) == "3 and 1 seeds"
    assert comparison.evaluations[2].model == evaluate_run(single).model
    stored, why = comparable.compared(models_of([*seeds, single]))
    assert why == "" and stored is not None
    assert [one.run for one in stored.evaluations] == [one.run for one in comparison.evaluations]
    other = fake_run(dataset, "other-dice", "dice", SplitConfig(seed=5), 100, experiment="other")
    with pytest.raises(RunError, match="different test parts"):
        evaluate([*seeds, other])
    folds = fake_folds(dataset, {"dice": 100}, 3, experiment="folds")
    with pytest.raises(RunError, match="not folds of one cross-validation"):
        evaluate([*seeds, *folds])
    assert comparable.compared(models_of([*seeds]) + list(models_of(folds))) == (None, comparable.APART)


def test_scores_that_are_missing_are_said(seeds: list[Run]) -> None:
    models = models_of(seeds)
    assert comparable.compared(models) == (None, "experiment-iou-seed1of3 has not been scored yet.")
    evaluate(seeds)
    seeds[2].evaluation.unlink()
    assert comparable.compared(models) == (None, "experiment-iou-seed2of3 has not been scored yet.")
    evaluate(seeds)
    found, _ = comparable.compared(models)
    assert found is not None and comparable.compared(models)[0] is found, "pages ask often"
    assert comparable.grounds(models, ["phantoms"]) == [""]


def test_on_another_dataset_seeds_are_one_model_too(seeds: list[Run], dataset: Dataset) -> None:
    comparison = evaluate(seeds, dataset.name)
    assert [one.run for one in comparison.evaluations] == ["experiment-iou", "experiment-dice"]
    each = evaluate_runs(of(seeds, "dice"), dataset.name).evaluations
    check_means(comparison.evaluations[1], list(each))


def test_only_runs_that_differ_in_their_seed_are_taken_together(seeds: list[Run], dataset: Dataset) -> None:
    assert of_several_seeds(seeds) and of_several_seeds(seeds[::2])
    assert not of_several_seeds(seeds[:2]), "one seed of each metric is compared as any runs are"
    assert [one.run for one in evaluate(seeds[:2]).evaluations] == [run.id for run in seeds[:2]]
    both = fake_seeds(dataset, {"dice": 90}, 2, folds=3, experiment="both")
    assert [one.run for one in evaluate(both[:3]).evaluations] == ["both-dice-seed1of2"]
    assert all(not model.seeds for model in models_of(both[:3]))


def test_the_model_of_seeds_predicts_the_mean_of_their_probabilities(seeds: list[Run]) -> None:
    evaluate(seeds)
    model = models_of(seeds)[1]
    values, rows = model.predictions()
    parts = [read_predictions(run) for run in of(seeds, "dice")]
    assert len(values) == len(parts[0].values)
    for case, zs in rows.items():
        for z, row in zs.items():
            own = np.mean([part.values[part.rows[case][z]].astype(float) for part in parts], axis=0)
            np.testing.assert_allclose(values[row], own, atol=1e-3)
            np.testing.assert_array_equal(values[row : row + 1][0], values[row])
    assert model.test == seeds[0].split.test
    before = model.sha256
    save_model(seeds[-1].onnx, 50)
    assert model.sha256 != before


def test_the_command_line_says_over_how_many_seeds(seeds: list[Run]) -> None:
    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["evaluate", *arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    text = invoke("experiment")
    assert "mean over 3 seeds ± standard deviation over them" in text
    assert "; in brackets the standard deviation over seeds" in text
    assert "A model of 3 seeds was trained 3 times" in text
    found = json.loads(invoke("experiment", "--json"))
    pooled = found["evaluations"][1]["model"]["pooled"]["dice"]
    std = np.std([seed["model"]["pooled"]["dice"] for seed in found["evaluations"][1]["seeds"]], ddof=1)
    assert f"{pooled:.4f} ± {std:.4f}" in text
    assert found["verdict"]["pairs"][0]["seeds"] == [3, 3]
    again = json.loads(invoke(*(run.id for run in seeds), "--json"))
    assert again["evaluations"][0]["model"] == found["evaluations"][0]["model"]
    assert "± " not in invoke(seeds[0].id).partition("Pooled")[2].partition("Mean over")[0]


def test_the_tables_hold_every_seed(seeds: list[Run]) -> None:
    """Who writes the paper needs the five numbers, not only their mean."""
    comparison = evaluate(seeds)
    files = data_frames.files(comparison)
    table = pd.read_csv(io.BytesIO(files["seeds.csv"]))
    dice = table[(table.predictor == "B · Dice") & (table.measure == "dice") & (table.level == "pooled")]
    assert list(dice.seed) == [201, 202, 203]
    assert list(dice.run) == [run.id for run in of(seeds, "dice")]
    long = pd.read_csv(io.BytesIO(files["scores.csv"]))
    row = long[(long.predictor == "B · Dice") & (long.measure == "dice") & (long.level == "pooled")].iloc[0]
    assert row["value"] == pytest.approx(dice.value.mean()) and row["std_over_seeds"] == pytest.approx(dice.value.std())
    assert long[long.predictor == "Background"]["seeds"].isna().all()
    own = data_frames.own_scores(comparison)
    assert list(own["Seeds"]) == [3, 3] and own["SD over seeds"].notna().all()
    assert json.loads(files["about.json"])["seeds"] == {"A · IoU": [101, 102, 103], "B · Dice": [201, 202, 203]}
    single = data_frames.files(evaluate_runs(seeds[:2]))
    assert "seeds.csv" not in single and "seeds" not in json.loads(single["about.json"])
    assert "Seeds" not in data_frames.own_scores(evaluate_runs(seeds[:2]))


def test_evidence_is_of_one_seed_and_that_is_said_before_anything_is_scored(seeds: list[Run], tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bundle", "experiment", "--output", str(tmp_path / "e.zip")])
    assert isinstance(done.exception, CovsegError) or done.exit_code == 2
    message = str(done.exception) if isinstance(done.exception, CovsegError) else done.output
    assert "a bundle holds one of each model" in message and "experiment-iou-seed1of3" in message
    assert not seeds[0].evaluation.exists()
    one = ["bundle", seeds[0].id, seeds[1].id, "--output", str(tmp_path / "e.zip")]
    assert CliRunner().invoke(cli, one, catch_exceptions=False).exit_code == 0


def test_elsewhere_a_scan_counts_once_with_the_mean_of_its_seeds(seeds: list[Run], dataset: Dataset) -> None:
    models = runs_by_model(seeds)
    assert list(models) == ["experiment-iou", "experiment-dice"]
    found = by_model(measure_shift(seeds), models)
    cell = found.cell("experiment-dice", dataset.name)
    evaluations = [evaluate_run(run) for run in of(seeds, "dice")]
    assert cell is not None and (cell.slices, cell.patients) == (evaluations[0].slices, evaluations[0].patients)
    for scan in evaluations[0].model.scans:
        values = [next(s for s in one.model.scans if s.case == scan.case).values["dice"] for one in evaluations]
        defined = [value for value in values if value is not None]
        if defined:
            assert cell.values[f"{scan.case} {scan.patient}"] == pytest.approx(np.mean(defined))
    assert "test parts" not in " ".join(drop.sentence for drop in drops_of(found, models).drops)


def test_the_leak_is_measured_over_seeds(dataset: Dataset, seeds: list[Run]) -> None:
    by_slice = fake_seeds(dataset, LIMITS, 3, experiment="leaky")
    for run in by_slice:
        config = json.loads((run.folder / "config.json").read_text())
        config["split"]["kind"] = "slice"
        (run.folder / "config.json").write_text(json.dumps(config))
    honest, leaky = by_metric(seeds), by_metric(by_slice)
    assert len(honest["dice"]) == 3
    found = measure_leakage(honest["dice"], leaky["dice"])
    pooled = [evaluate_run(run).model.pooled["dice"] for run in honest["dice"]]
    assert found.by_patient.scores["dice"].value == pytest.approx(np.mean(pooled))  # type: ignore[arg-type]
    assert len(found.by_patient.similarity) == found.by_patient.slices, "each test slice once"


def test_intervals_of_pooled_scores_are_wider_by_what_seeds_add(dataset: Dataset) -> None:
    runs = fake_seeds(dataset, {"dice": 60}, 3, folds=3)
    [evaluation] = evaluate(runs).evaluations
    whole = score(evaluation, "dice")
    for seed in evaluation.seeds:
        alone = score(dataclasses.replace(evaluation, model=seed.model, seeds=()), "dice")
        assert None not in (whole.low, whole.high, alone.low, alone.high)
    assert whole.low is not None and whole.high is not None and whole.value is not None
    assert whole.low < whole.value < whole.high
    assert gap(evaluation, evaluation, "dice").value == 0
