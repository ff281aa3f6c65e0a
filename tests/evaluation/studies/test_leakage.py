"""The leakage meter. What a user loses otherwise: the reason why a score of a split by slice is too good to be true."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from click.testing import CliRunner
from fakeruns import SIZE, fake_folds, fake_run, save_model

from covseg_core.cli import cli
from covseg_core.config import PrepareConfig, SplitConfig, TrainConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import prepared
from covseg_core.data.splitting.similarity import nearest, neighbours
from covseg_core.errors import RunError
from covseg_core.evaluation.significance.bootstrap import _pooled
from covseg_core.evaluation.studies.leakage import measure_leakage, stored_leakage
from covseg_core.runs import Run, list_runs

PREPARE = PrepareConfig(size=SIZE)
SHARES = (0.3, 0.2, 0.5)


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(10, 32)


@pytest.fixture
def pair(dataset: Dataset) -> tuple[list[Run], list[Run]]:
    """By patient and by slice; the latter's model is the better one."""
    return (
        [fake_run(dataset, "by-patient", "dice", SplitConfig("patient", SHARES), 20, experiment="by-patient")],
        [fake_run(dataset, "by-slice", "dice", SplitConfig("slice", SHARES), 110, experiment="by-slice")],
    )


def test_a_slice_that_is_in_training_has_similarity_1(dataset: Dataset) -> None:
    first, second = dataset.cases[0].id, dataset.cases[1].id
    similarity = nearest(dataset, {first: (1, 4), second: (3,)}, {first: (0, 4, 7)}, PREPARE)
    assert similarity[1] == pytest.approx(1, abs=1e-5)
    images = {id: prepared(dataset, dataset.case(id), PREPARE, "images").astype(float) for id in (first, second)}
    by_hand = [np.corrcoef(images[second][3].ravel(), images[first][z].ravel())[0, 1] for z in (0, 4, 7)]
    assert similarity[2] == pytest.approx(max(by_hand), abs=1e-5)
    assert similarity[2] < 0.999


def test_neighbours_are_next_to_each_other_in_one_body(dataset: Dataset) -> None:
    first, second = dataset.cases[0].id, dataset.cases[1].id
    train = {first: (0, 4), second: (6,)}
    assert neighbours(dataset, {first: (1, 2, 3), second: (4, 5)}, train).tolist() == [True, False, True, False, True]
    stacked = dataclasses.replace(dataset, cases=tuple(dataclasses.replace(one, stacked=True) for one in dataset.cases))
    assert not neighbours(stacked, {first: (1, 3)}, train).any(), "unrelated slices in one file"


def test_a_split_by_slice_is_told_from_one_by_patient(pair: tuple[list[Run], list[Run]]) -> None:
    seen: list[tuple[int, int]] = []
    found = measure_leakage(*pair, progress=lambda done, total: seen.append((done, total)))
    assert found.by_patient.share_neighbours == 0
    assert found.by_slice.share_neighbours > 0.4
    assert found.by_slice.median_similarity > found.by_patient.median_similarity
    assert found.by_slice.slices == len(found.by_slice.similarity) == 40
    assert (found.by_patient.patients, found.by_slice.patients) == (5, 10)
    assert found.differences == () and not found.paired
    assert seen[-1][0] == seen[-1][1]
    assert [done / total for done, total in seen] == sorted(done / total for done, total in seen)
    assert measure_leakage(*reversed(pair)) == found, "which is which is seen from the runs"


def test_the_gap_is_of_the_scores_in_the_tables_and_has_an_interval(pair: tuple[list[Run], list[Run]]) -> None:
    found = measure_leakage(*pair)
    for measure in ("dice", "iou"):
        gap, sides = found.gaps[measure], (found.by_patient.scores[measure], found.by_slice.scores[measure])
        assert gap.value is not None and sides[0].value is not None and sides[1].value is not None
        assert gap.value == pytest.approx(sides[1].value - sides[0].value)
        for one in (gap, *sides):
            assert one.low is not None and one.high is not None and one.value is not None
            assert one.low <= one.value <= one.high
    assert json.loads((pair[0][0].folder / "evaluation.json").read_text())["model"]["pooled"]["dice"] == (
        found.by_patient.scores["dice"].value
    )


def test_few_patients_get_no_interval(dataset: Dataset) -> None:
    """Of two people, an interval would say more than is known."""
    few = fake_run(dataset, "few", "dice", SplitConfig(fractions=(0.6, 0.2, 0.2)), 60)
    leaky = fake_run(dataset, "leaky", "dice", SplitConfig("slice", (0.6, 0.2, 0.2)), 110)
    found = measure_leakage([few], [leaky])
    assert found.by_patient.patients == 2
    assert found.by_patient.scores["dice"].low is None
    assert found.gaps["dice"].value is not None and found.gaps["dice"].low is None


def test_patients_that_are_drawn_anew_scatter_around_the_score() -> None:
    alike = np.tile([10.0, 5.0, 5.0], (6, 1))
    assert set(_pooled(alike, "dice").round(9)) == {round(20 / 30, 9)}, "equal patients leave nothing to chance"
    assert set(_pooled(alike, "iou")) == {0.5}
    apart = _pooled(np.array([[10.0, 0, 0], [0, 5, 5]] * 3), "dice")
    assert apart.min() == 0 and apart.max() == 1


def test_what_else_differs_is_said(dataset: Dataset, pair: tuple[list[Run], list[Run]]) -> None:
    """Or somebody blames the split for what ten more epochs have done."""
    longer = fake_run(
        dataset, "longer", "dice", SplitConfig("slice", SHARES, seed=1), 110, train=TrainConfig(epochs=250)
    )
    differences = measure_leakage(pair[0], [longer]).differences
    assert differences == (
        "split.seed differs: 0 by patient, 1 by slice.",
        "train.epochs differs: 100 by patient, 250 by slice.",
    )


def test_what_cannot_be_compared_is_refused(dataset: Dataset, pair: tuple[list[Run], list[Run]]) -> None:
    with pytest.raises(RunError, match="both are split by patient"):
        measure_leakage(pair[0], pair[0])
    elsewhere = fake_run(dataset, "elsewhere", "dice", SplitConfig("slice", SHARES), 90, fingerprint="f")
    with pytest.raises(RunError, match="different fingerprints"):
        measure_leakage(pair[0], [elsewhere])
    with pytest.raises(RunError, match="1 and 3 runs"):
        measure_leakage(pair[0], fake_folds(dataset, {"dice": 90}, 3, "slice", experiment="many"))


def test_what_was_measured_is_kept_until_a_model_changes(pair: tuple[list[Run], list[Run]]) -> None:
    assert stored_leakage(*pair) is None
    found = measure_leakage(*pair)
    assert stored_leakage(*pair) == found
    save_model(pair[0][0].onnx, 70)
    assert stored_leakage(*pair) is None


def test_folds_of_both_splits_are_compared_over_everybody(dataset: Dataset) -> None:
    runs = [fake_folds(dataset, {"dice": 90}, 3, kind, experiment=f"all-{kind}") for kind in ("patient", "slice")]
    found = measure_leakage(*runs)
    assert (found.by_patient.slices, found.by_slice.slices) == (80, 80)
    assert len(found.by_patient.similarity) == 80
    assert (found.by_patient.patients, found.by_slice.patients) == (10, 10)
    assert found.by_patient.share_neighbours == 0 < found.by_slice.share_neighbours
    assert found.paired


def test_the_same_patients_on_both_sides_are_drawn_together(dataset: Dataset) -> None:
    """Hard and easy patients are so on both sides, and say nothing about the split."""
    runs = [fake_folds(dataset, {"dice": 90}, 3, kind, experiment=f"all-{kind}") for kind in ("patient", "slice")]
    for run in (*runs[0], *runs[1]):
        save_model(run.onnx, 90)
    gap = measure_leakage(*runs).gaps["dice"]
    assert (gap.low, gap.value, gap.high) == (0, 0, 0), "one model on the same slices"


def test_the_command_line_takes_runs_and_experiments(pair: tuple[list[Run], list[Run]]) -> None:
    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["leakage", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    text = invoke("by-patient", "by-slice")
    assert "Dice (foreground)" in text and "[" in text
    assert "Test slices next to a training slice" in text
    [found] = json.loads(invoke("by-patient", "by-slice", "--json"))
    assert found["by_slice"]["runs"] == ["by-slice"]
    assert found["gaps"]["dice"]["value"] > 0


def test_both_splits_are_trained_by_one_command(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        def __init__(self, *args: object, **kwargs: object) -> None: ...

        def poll(self) -> None:
            return None

    monkeypatch.setattr(subprocess, "Popen", Idle)
    arguments = ["train", dataset.name, "--metric", "dice", "--split", "both", "--seed", "3"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    configs = [run.config for run in list_runs()]
    assert sorted((config.split.kind, config.split.seed) for config in configs) == [("patient", 3), ("slice", 3)]
    assert len({config.experiment for config in configs}) == 2
