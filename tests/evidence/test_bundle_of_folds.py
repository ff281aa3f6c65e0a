"""Evidence for a cross-validation. What a user loses otherwise: numbers over all patients that can be checked."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from fakeruns import fake_folds, fake_seeds, save_model
from zips import changed, edited

from covseg_core.cli.evidence import bundle, verify
from covseg_core.config import Metric
from covseg_core.data.library.datasets import Dataset, delete_dataset, load_dataset
from covseg_core.data.library.importing import import_sample
from covseg_core.errors import CovsegError, DatasetError, RunError
from covseg_core.evaluation.cross_validation.evaluate import evaluate_each, evaluate_folds
from covseg_core.evaluation.cross_validation.folds import folds_of
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evidence.bundle import MANIFEST, write_bundle
from covseg_core.evidence.verify import Verification, verify_bundle
from covseg_core.runs import Run, list_runs

LIMITS: dict[Metric, float] = {"iou": 90, "dice": 120}
DICE = 1
"""Place of the second model."""


def write(folds: list[Run], path: Path) -> Path:
    write_bundle(folds_of(folds), evaluate_folds(folds), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, and the evidence for two models of three folds."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVSEG_DATA", str(root / "data"))
        patch.setenv("COVSEG_CHECKPOINTS", str(root / "checkpoints"))
        write(fake_folds(import_sample("phantoms", scans=6, size=48), LIMITS, 3), root / "evidence.zip")
    return root


@pytest.fixture
def dataset(made: Path, data_folder: Path) -> Dataset:
    shutil.copytree(made / "data", data_folder)
    return load_dataset("phantoms")


@pytest.fixture
def folds(dataset: Dataset) -> list[Run]:
    return fake_folds(dataset, LIMITS, 3)


@pytest.fixture
def evidence(made: Path, dataset: Dataset, tmp_path: Path) -> Path:
    """A bundle that was made elsewhere."""
    return Path(shutil.copy(made / "evidence.zip", tmp_path))


def forged(evidence: Path, **changes: Callable[[Any], None]) -> Verification:
    """What comes out after changes of the JSON files `comparison`, or of the scores of a fold of the Dice model."""
    names = {"comparison": "comparison.json"} | {
        f"fold{fold}": f"runs/experiment-dice-fold{fold}of3/evaluation.json" for fold in (1, 2, 3)
    }
    return verify_bundle(
        changed(evidence, {names[name]: edited(change) for name, change in changes.items()}, honest=True)
    )


def test_all_folds_come_out_again_on_a_computer_that_has_the_data_but_not_the_runs(
    evidence: Path, other_process: None
) -> None:
    result = verify_bundle(evidence)
    assert result.same, result
    assert [check.run for check in result.runs] == ["experiment-iou", "experiment-dice"]
    for check in result.runs:
        assert [one.run for one in check.stored] == [f"{check.run}-fold{fold}of3" for fold in (1, 2, 3)]
        assert [one.fold for one in check.stored] == [1, 2, 3]
        assert check.slices == sum(one.slices for one in check.stored) > 0
        assert all(one.largest_difference == 0 for one in check.whole)
    assert "same: 2 models of 3 folds on " in result.sentence
    assert not list_runs(), "nothing is left in the user's folder"


def test_a_bundle_holds_every_fold_and_what_a_reader_opens(evidence: Path, folds: list[Run]) -> None:
    with zipfile.ZipFile(evidence) as archive:
        names = archive.namelist()
        manifest, curves = json.loads(archive.read(MANIFEST)), archive.read("figures/curves.html").decode()
        readme = archive.read("README.txt").decode()
        table = pd.read_csv(io.BytesIO(archive.read("tables/folds.csv")))
    for run in folds:
        for file in ("config.json", "split.json", "status.json", "history.csv", "model.onnx", "evaluation.json"):
            assert f"runs/{run.id}/{file}" in names
    assert sorted(manifest["runs"]) == sorted(run.id for run in folds)
    assert manifest["version"] == 4, "a covseg that knows no folds has to say so"
    assert {"tables/scores.csv", "tables/slices.csv", "figures/dice.html", "figures/differences.html"} <= set(names)
    assert not [name for name in names if name.endswith((".npy", ".npz", ".nii.gz", ".nii", ".png", ".log"))]
    assert "Every patient is tested once" in readme
    assert all(f"Fold {fold}" in curves for fold in (1, 2, 3))
    assert "experiment-iou" in curves and "experiment-dice" in curves
    assert len(curves) < 6e6, "the library that draws them is inside once"
    learned = table[table["run"].notna()].set_index("run")
    for run in folds:
        scores = evaluate_run(run)
        row = learned.loc[run.id]
        assert row["fold"] == run.config.split.fold
        assert row["dice"] == pytest.approx(scores.model.pooled["dice"])
        assert (row["slices"], row["own_test"]) == (scores.slices, pytest.approx(scores.own.test))
    assert len(table) == 3 * (2 + len(scores.baselines)), "baselines stand beside the models, in every fold"


def test_one_voxel_that_is_predicted_otherwise_is_found_out(evidence: Path) -> None:
    def moved(scores: dict) -> None:
        [counts, *_] = [one["counts"] for one in scores["model"]["slices"] if one["counts"]["tp"]]
        counts["tp"] -= 1
        counts["fn"] += 1

    result = forged(evidence, fold2=moved)
    assert [check.same for check in result.runs] == [True, False]
    assert [one.differing_slices for one in result.runs[DICE].whole] == [0, 0, 1, 0]
    result = forged(evidence, comparison=lambda comparison: moved(comparison["evaluations"][DICE]))
    assert [one.differing_slices for one in result.runs[DICE].whole] == [1, 0, 0, 0]
    assert not result.same


def test_a_number_that_was_made_better_is_found_out_where_it_stands(evidence: Path) -> None:
    def better(scores: dict) -> None:
        scores["model"]["pooled"]["dice"] += 0.05

    def better_together(comparison: dict) -> None:
        better(comparison["evaluations"][DICE])

    result = forged(evidence, fold2=better)
    assert [check.agrees for check in result.runs] == [True, False]
    assert "NOT the same: experiment-dice (fold 2) differs by up to 0.05." in result.sentence
    assert result.runs[DICE].result == "differs in fold 2"
    assert "(folds 1 and 3) differs" in forged(evidence, fold1=better, fold3=better).sentence
    assert "experiment-dice (all folds together) differs" in forged(evidence, comparison=better_together).sentence
    assert "experiment-dice (fold 2) differs" in forged(evidence, fold2=better, comparison=better_together).sentence


def test_scores_in_the_folders_of_the_folds_are_not_believed(evidence: Path) -> None:
    """Whoever has folds already scored does not score them again: here that would check a claim against itself."""

    def better(scores: dict) -> None:
        scores["own"]["train_validation"] = 1.0
        scores["own"]["train_validation_counts"].update(fp=0, fn=0)

    def better_together(comparison: dict) -> None:
        better(comparison["evaluations"][DICE])

    result = forged(evidence, fold1=better, fold2=better, fold3=better, comparison=better_together)
    assert [check.agrees for check in result.runs] == [True, False]
    assert result.runs[DICE].where == "folds 1, 2 and 3"


def test_other_weights_of_one_fold_are_found_out(evidence: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "other.onnx", 60)
    other = (tmp_path / "other.onnx").read_bytes()
    name = "runs/experiment-dice-fold3of3/model.onnx"
    with pytest.raises(CovsegError, match=f"{name} was changed"):
        verify_bundle(changed(evidence, {name: lambda _: other}))
    result = verify_bundle(changed(evidence, {name: lambda _: other}, honest=True))
    assert [check.agrees for check in result.runs] == [True, False]
    assert [one.agrees for one in result.runs[DICE].stored] == [True, True, False]
    assert result.runs[DICE].where == "fold 3"
    assert "model_sha256" in result.sentence


def test_without_the_same_data_nothing_is_claimed(evidence: Path, dataset: Dataset) -> None:
    delete_dataset(dataset.name)
    with pytest.raises(DatasetError, match="scans and masks that are not here"):
        verify_bundle(evidence)
    import_sample(dataset.name, scans=6, size=48, seed=1)
    with pytest.raises(DatasetError, match="scans and masks that are not here"):
        verify_bundle(evidence)


def test_a_fold_that_is_kept_back_or_counted_twice_is_refused(evidence: Path) -> None:
    """Numbers over the patients on whom it went well."""
    first, second = (f"runs/experiment-dice-fold{fold}of3/split.json" for fold in (1, 2))
    with zipfile.ZipFile(evidence) as archive:
        split = archive.read(first)
    twice = {second: lambda _: split, second.replace("dice", "iou"): lambda _: split}
    with pytest.raises(CovsegError, match="folds of experiment-iou test the same slices"):
        verify_bundle(changed(evidence, twice, honest=True))
    without = edited(lambda manifest: manifest["runs"].remove("experiment-dice-fold2of3"))
    with pytest.raises(CovsegError, match=r"comparison.json is of|its models"):
        verify_bundle(changed(evidence, {MANIFEST: without}, honest=True))
    scores = "runs/experiment-dice-fold2of3/evaluation.json"
    with pytest.raises(CovsegError, match=f"lacks {scores}"):
        verify_bundle(changed(evidence, {scores: lambda _: None}, honest=True))


def test_folds_that_are_not_finished_are_named(folds: list[Run], tmp_path: Path) -> None:
    folds[3].write_status(dataclasses.replace(folds[3].status, state="stopped"))
    path = write(folds, tmp_path / "evidence.zip")
    with zipfile.ZipFile(path) as archive:
        assert "Only 2 of 3 folds" in archive.read("README.txt").decode()
        assert not [name for name in archive.namelist() if "fold2of3" in name]
        table = pd.read_csv(io.BytesIO(archive.read("tables/folds.csv")))
    runs = table[table["run"].notna()]
    assert [run.endswith(f"fold{fold}of3") for run, fold in zip(runs["run"], runs["fold"], strict=True)] == [True] * 4
    result = verify_bundle(path)
    assert result.same
    assert "2 models of 2 of 3 folds" in result.sentence


def test_models_stand_in_the_order_in_which_they_were_compared(folds: list[Run], tmp_path: Path) -> None:
    """On a page the user chooses it, and the policy for empty masks, which that of each fold's file need not be."""
    models = folds_of(folds)[::-1]
    evaluate_folds(folds)
    comparison = merge(models, evaluate_each(models, "one"))
    assert comparison.evaluations[0].policy == "one"
    write_bundle(models, comparison, tmp_path / "evidence.zip")
    result = verify_bundle(tmp_path / "evidence.zip")
    assert [check.run for check in result.runs] == ["experiment-dice", "experiment-iou"]
    assert result.same, result.sentence


def test_scores_of_an_earlier_model_are_no_evidence(folds: list[Run], tmp_path: Path) -> None:
    comparison = evaluate_folds(folds)
    save_model(folds[3].onnx, 200)
    with pytest.raises(RunError, match="has scores of an earlier model"):
        write_bundle(folds_of(folds), comparison, tmp_path / "evidence.zip")
    evaluate_folds(folds)
    with pytest.raises(RunError, match="experiment-dice: has scores of an earlier model"):
        write_bundle(folds_of(folds), comparison, tmp_path / "evidence.zip")


def test_the_commands_take_the_experiment_and_name_the_fold_that_differs(folds: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    done = CliRunner().invoke(bundle, ["experiment", "--output", str(path)])
    assert done.exit_code == 0, done.output
    assert "Every patient is tested once" in done.output
    done = CliRunner().invoke(verify, [str(path)])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert [line[:2] for line in lines if line[0] == "fold"] == [["fold", str(fold)] for fold in (1, 2, 3)] * 2
    assert [line[-1] for line in lines if line[0].startswith("experiment")] == ["same", "same"]
    name = "runs/experiment-dice-fold2of3/model.onnx"
    worse = changed(path, {name: lambda _: folds[0].onnx.read_bytes()}, honest=True)
    done = CliRunner().invoke(verify, [str(worse), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert "experiment-dice (fold 2) differs" in found["sentence"]
    assert [one["same"] for one in found["runs"][DICE]["stored"]] == [True, False, True]


def test_the_folds_of_one_seed_are_evidence_by_themselves(dataset: Dataset, tmp_path: Path) -> None:
    runs = fake_seeds(dataset, LIMITS, 2, folds=3)[6:]
    result = verify_bundle(write(runs, tmp_path / "evidence.zip"))
    assert result.same
    assert [check.run for check in result.runs] == ["experiment-iou-seed2of2", "experiment-dice-seed2of2"]
