"""The operating point. What a user loses otherwise: a threshold picked on the test part, or one that is not used."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fakeruns import SIZE, fake_run
from likeness import LESION, save_likeness

from covseg_core.cli import main
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, delete_dataset
from covseg_core.data.slices.cache import prepared
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.stored_predictions import operating_point_search
from covseg_core.evaluation.stored_predictions.operating_point_search import (
    MINIMUMS,
    PREDICTIONS,
    choose_point,
    forget_point,
    validation,
)
from covseg_core.evaluation.stored_predictions.thresholds import STEPS
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.ask import ask
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.runs import Run
from covseg_core.runs.operating_point import (
    FILE,
    PEAKS,
    OperatingPoint,
    Threshold,
    Thresholds,
    Unit,
    read_point,
    thresholds_of,
)


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(6)


@pytest.fixture
def make_run(dataset: Dataset) -> Callable[..., Run]:
    def make(id: str = "run", width: float = 100.0) -> Run:
        run = fake_run(dataset, id, "dice", SplitConfig(fractions=(0.2, 0.4, 0.4)), 0)
        save_likeness(run.onnx, SIZE, width)
        return run

    return make


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run()


def point(run: Run, **values: object) -> OperatingPoint:
    """A stored point of the run's present model, without a peak unless one is given."""
    choose_point(run, few=True)
    made = dataclasses.replace(read_point(run), **{"peak": 0.0, **values})  # type: ignore[type-var, arg-type]
    write_json(run.folder / FILE, made)
    return made


def test_on_a_few_scans_a_point_is_refused_unless_it_is_asked_for(run: Run) -> None:
    """Picked on one scan it made masks of others worse, and prediction used it without a word."""
    with pytest.raises(RunError, match="3 validation scans, on which .* expected at least 5, or `--few`"):
        choose_point(run)
    assert read_point(run) is None
    assert choose_point(run, few=True).scans == 3


def test_it_is_the_best_of_all_that_are_tried(run: Run) -> None:
    chosen = choose_point(run, few=True)
    model = validation(run)
    tried = {
        (threshold, minimum, peak): model.at(threshold, minimum, peak).over_scans["dice"].mean
        for threshold in STEPS
        for minimum in MINIMUMS["mm3"]
        for peak in PEAKS
    }
    best = max(tried.values())
    assert chosen.score == pytest.approx(best)
    assert tried[chosen.threshold, chosen.minimum, chosen.peak] == pytest.approx(best)
    ties = [each for each, score in tried.items() if score > best - 1e-9]
    nearest = min(abs(threshold - 0.5) for threshold, *_ in ties)
    assert abs(chosen.threshold - 0.5) == pytest.approx(nearest)
    assert (chosen.minimum, chosen.peak) == min(each[1:] for each in ties if each[0] == chosen.threshold)
    assert chosen.score_at_half == pytest.approx(tried[0.5, 0, 0])
    assert chosen.score > chosen.score_at_half + 0.01, "the model's best threshold should not be 0.5 in this test"
    alone = max(score for (_, size, peak), score in tried.items() if (size, peak) == (0, chosen.peak))
    assert chosen.score_alone == pytest.approx(alone)
    assert (chosen.chosen_on, chosen.unit) == ("validation", "mm3")
    assert (chosen.scans, chosen.slices) == (len(run.split.validation), 8 * len(run.split.validation))
    assert read_point(run) == chosen


def test_the_sizes_that_are_tried_are_those_of_the_document() -> None:
    """A paper that cites docs/reference/analyses.md says what was searched: another grid is another method."""
    document = Path(__file__).resolve().parents[3] / "docs" / "reference" / "analyses.md"
    said = re.search(r"from ([\d, and]+) mm³ \(([\d, and]+) voxels", document.read_text(encoding="utf-8"))
    assert said is not None
    sizes = {
        unit: [float(size) for size in re.findall(r"\d+", words)]
        for unit, words in zip(MINIMUMS, said.groups(), strict=True)
    }
    assert sizes == {unit: list(sizes) for unit, sizes in MINIMUMS.items()}
    said = re.search(r"peak of a lesion, from ([\d., and]+\d)", document.read_text(encoding="utf-8"))
    assert said is not None
    assert [float(peak) for peak in re.findall(r"[\d.]+", said.group(1))] == list(PEAKS)
    assert list(MINIMUMS) == ["mm3", "voxels"]


class Answers:
    """What the search asks of a `WhatIf`, with scores that are given: 0.2 but for those of `known`."""

    def __init__(self, known: dict[tuple[float, ...], list[float]], unit: str = "mm3", other: float = 0.2) -> None:
        self.known, self.unit, self.other = known, unit, other
        self.scans, self.slices, self.has_truth = 2, 16, True
        self.asked: set[tuple[float, float, float]] = set()

    def scan_dice(self, threshold: float, minimum: float, peak: float) -> list[float]:
        self.asked.add((threshold, minimum, peak))
        return self.known.get((threshold, minimum, peak) if peak else (threshold, minimum), [self.other])


def all_that_is_tried(unit: Unit) -> set[tuple[float, float, float]]:
    """A peak up to the threshold leaves nothing out."""
    return {
        (step, size, peak) for step in STEPS for size in MINIMUMS[unit] for peak in PEAKS if peak == 0 or peak > step
    }


@pytest.mark.parametrize(
    ("known", "picked", "alone"),
    [
        ({}, (0.5, 0, 0.2), (0.5, 0.2)),  # all alike: nothing to gain by leaving the middle
        ({(0.4, 0): [0.6], (0.55, 0): [0.6]}, (0.55, 0, 0.6), (0.55, 0.6)),  # the nearer to 0.5
        ({(0.45, 0): [0.6], (0.55, 0): [0.6]}, (0.45, 0, 0.6), (0.45, 0.6)),  # as near: the one that marks more
        ({(0.3, 50): [0.6], (0.3, 10): [0.6]}, (0.3, 10, 0.6), (0.5, 0.2)),  # the smaller size
        ({(0.3, 0, 0.95): [0.6], (0.3, 0, 0.8): [0.6], (0.3, 0): [0.5]}, (0.3, 0, 0.6, 0.8), (0.3, 0.6)),  # lower peak
        ({(0.3, 10, 0.7): [0.6], (0.3, 0, 0.7): [0.5], (0.4, 0): [0.55]}, (0.3, 10, 0.6, 0.7), (0.3, 0.5)),
        ({(0.95, 500): [0.9], (0.05, 0): [0.3]}, (0.95, 500, 0.9), (0.05, 0.3)),  # the ends are tried as well
        (
            {(0.5, 0): [0.6], (0.3, 0): [0.6 + 5e-10]},
            (0.5, 0, 0.6),
            (0.5, 0.6),
        ),  # binary digits decide nothing
        ({(0.5, 0): [0.6], (0.3, 0): [0.6 + 5e-9]}, (0.3, 0, 0.6), (0.3, 0.6)),
        ({(0.5, 0): [0.9, 0.1], (0.3, 0): [0.6, math.nan]}, (0.3, 0, 0.6), (0.3, 0.6)),  # empty twice: no score
        ({(0.5, 0): [0.9, 0.0]}, (0.5, 0, 0.45), (0.5, 0.45)),  # something marked where nothing is: 0
    ],
)
def test_how_a_point_is_picked_by_hand(
    run: Run, monkeypatch: pytest.MonkeyPatch, known: dict, picked: tuple, alone: tuple
) -> None:
    """As docs/reference/analyses.md says it: from the same scores everybody must get the same point."""
    answers = Answers(known)
    monkeypatch.setattr(operating_point_search, "validation", lambda *_: answers)
    chosen = choose_point(run, few=True)
    assert (chosen.threshold, chosen.minimum) == picked[:2]
    assert chosen.score == pytest.approx(picked[2])
    assert chosen.peak == (picked[3] if len(picked) > 3 else 0)
    assert (chosen.alone, chosen.score_alone) == (alone[0], pytest.approx(alone[1]))
    assert chosen.score_at_half == pytest.approx(np.nanmean(known.get((0.5, 0), [0.2])))
    assert answers.asked == all_that_is_tried("mm3")


def test_where_no_scan_has_a_score_the_middle_stays(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that marks nothing above 0.5 is still scored as worse than one with any score, 0 included."""
    answers = Answers({(0.05, 5): [0.0, math.nan]}, "voxels", other=math.nan)
    monkeypatch.setattr(operating_point_search, "validation", lambda *_: answers)
    chosen = choose_point(run, few=True)
    assert (chosen.threshold, chosen.minimum, chosen.score, chosen.unit) == (0.05, 5, 0.0, "voxels")
    assert (chosen.alone, chosen.score_alone, chosen.score_at_half) == (0.5, -1, -1)
    assert answers.asked == all_that_is_tried("voxels")


def test_a_point_says_when_and_on_what_it_was_picked(run: Run) -> None:
    """Whoever reads the file a year later must know what it belongs to."""
    before = datetime.now(UTC).replace(microsecond=0)
    chosen = choose_point(run, few=True)
    assert before <= datetime.fromisoformat(chosen.created) <= datetime.now(UTC)
    assert chosen.created.endswith("+00:00") and len(chosen.created) == len("2024-01-01T00:00:00+00:00")
    assert chosen.model_sha256 == sha256_file(run.onnx)
    assert chosen.measure == "mean Dice over validation scans, on the network's grid"


@pytest.mark.parametrize("change", ["kind", "shape", "digest", "short", "text"])
def test_answers_that_are_not_the_models_are_asked_for_again(run: Run, change: str) -> None:
    """Stored by an earlier covseg, for another split, by another model, or cut off by a full disk."""
    path = run.folder / PREDICTIONS
    first = choose_point(run, few=True)
    content, right = path.read_bytes(), np.load(path)
    digest = content[-32:]
    assert digest == bytes.fromhex(sha256_file(run.onnx))
    with open(path, "wb") as handle:
        if change == "kind":
            np.save(handle, np.zeros(right.shape, np.float32))
        elif change == "shape":
            np.save(handle, np.zeros_like(right[:-1]))
        elif change == "digest":
            np.save(handle, np.zeros_like(right))
            digest = bytes(32)
        elif change == "short":
            handle.write(content[:200])
            digest = b""
        else:
            digest = b"none"
        handle.write(digest)
    assert choose_point(run, few=True).score == first.score
    np.testing.assert_array_equal(np.load(path), right)


def test_slices_are_stored_by_case_and_slice(run: Run, dataset: Dataset) -> None:
    """In another order every lesion would be looked for on another slice."""
    told: list[tuple[int, int]] = []
    validation(run, lambda done, total: told.append((done, total)))
    stored, slices = np.load(run.folder / PREDICTIONS), []
    assert len(run.split.validation) > 1
    for id in sorted(run.split.validation):
        images = prepared(dataset, dataset.case(id), run.config.prepare, "images")
        slices += [images[z] for z in sorted(run.split.validation[id])]
    expected = np.clip(1 - np.abs(np.array(slices, float) - LESION) / 100, 0, 1)
    np.testing.assert_allclose(stored, expected, atol=1e-3)
    assert [total for _, total in told] == [len(slices)] * len(told)
    assert [done for done, _ in told] == sorted({done for done, _ in told}), "a bar that goes back"
    assert told[-1][0] == len(slices) and len(told) >= len(run.split.validation)


def test_a_run_without_a_validation_part_is_refused(run: Run) -> None:
    write_json(run.folder / "split.json", dataclasses.replace(run.split, validation={}))
    with pytest.raises(RunError, match=r"^run: its split has no validation part; expected validation slices, to pick"):
        choose_point(run, few=True)


def test_a_full_disk_is_one_line_and_leaves_no_half_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(CovsegError) as caught:
            choose_point(run, few=True)
    path = run.folder / PREDICTIONS
    assert str(caught.value) == f"{path}: cannot be written (No space left on device); expected room on disk"
    assert not path.exists() and not list(run.folder.glob(".*"))
    monkeypatch.setattr(operating_point_search, "_read", lambda *_: None)
    with pytest.raises(
        CovsegError, match=rf"^{re.escape(str(path))}: reads back as something else .*a disk that works$"
    ):
        choose_point(run, few=True)


def test_the_test_part_has_no_say_in_it(run: Run, dataset: Dataset) -> None:
    """Not even its files are needed: otherwise scores of a point picked there would be shown as honest."""
    for id in run.split.test:
        case = dataset.case(id)
        dataset.path(case, "scan").unlink()
        dataset.path(case, "infection").unlink()
    assert choose_point(run, few=True).chosen_on == "validation"
    assert not run.test_predictions.exists()


def test_validation_is_predicted_once_for_a_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = Segmenter.probabilities

    def watched(self: Segmenter, images: np.ndarray, *rest: object, **more: object) -> np.ndarray:
        asked.append(len(images))
        return ask(self, images, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "probabilities", watched)
    told = []
    first = choose_point(run, lambda done, total: told.append((done, total)), few=True)
    assert sum(asked) == first.slices == told[-1][0] == told[-1][1]
    stored = np.load(run.folder / PREDICTIONS)
    assert (stored.shape, stored.dtype) == ((first.slices, SIZE, SIZE), np.float16)
    assert dataclasses.replace(choose_point(run, few=True), created="") == dataclasses.replace(first, created="")
    assert sum(asked) == first.slices, "predicted a second time"
    save_likeness(run.onnx, SIZE, 60.0)
    assert choose_point(run, few=True).score_at_half != first.score_at_half, "answers of the model before"
    assert sum(asked) == 2 * first.slices


def test_a_cancelled_search_leaves_nothing(run: Run) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    before = sorted(run.folder.iterdir())
    with pytest.raises(Stopped):
        choose_point(run, stop, few=True)
    assert sorted(run.folder.iterdir()) == before


def test_a_point_of_an_earlier_model_is_not_used(run: Run) -> None:
    choose_point(run, few=True)
    save_likeness(run.onnx, SIZE, 60.0)
    assert read_point(run) is None
    assert thresholds_of([run]) == Thresholds()


def test_without_its_data_the_error_says_what_is_missing(run: Run) -> None:
    """As for a shipped model: its folder travels without the scans."""
    delete_dataset("phantoms")
    with pytest.raises(RunError, match=r"run: its validation scans are not here \(dataset phantoms\)"):
        choose_point(run, few=True)


def test_data_that_have_changed_are_refused(run: Run) -> None:
    write_json(run.folder / "config.json", dataclasses.replace(run.config, fingerprint="0" * 64))
    with pytest.raises(RunError, match="has changed"):
        choose_point(run, few=True)


def test_a_validation_part_without_a_lesion_is_refused(run: Run, dataset: Dataset) -> None:
    healthy = [case.id for case in dataset.cases if not case.positive_slices]
    assert healthy
    split = dataclasses.replace(run.split, validation={healthy[0]: tuple(range(8))})
    write_json(run.folder / "split.json", split)
    with pytest.raises(RunError, match="no infection on its validation slices"):
        choose_point(run, few=True)
    assert not (run.folder / FILE).exists()


def test_several_models_are_used_each_at_its_own_point(make_run: Callable[..., Run]) -> None:
    runs = [make_run("a"), make_run("b"), make_run("c")]
    assert thresholds_of(runs) == Thresholds()
    for run in runs[:2]:
        point(run, threshold=0.35, minimum=20.0)
    assert thresholds_of(runs[:1]) == Thresholds(0.35, 20.0, why="the operating point of the run")
    assert thresholds_of(runs[:2]) == Thresholds(0.35, 20.0, why="the operating point of the runs")
    own = (Threshold(0.35, 20.0), Threshold(0.35, 20.0), Threshold())
    assert thresholds_of(runs) == Thresholds(
        0.5, 20.0, why="the operating points of the runs, 0.5 for c, which has none", each=own
    )
    assert thresholds_of(runs[1:]).minimum_mm3 == 10, "the combined mask takes the median of the sizes"
    point(runs[2], threshold=0.4, minimum=50.0)
    assert thresholds_of(runs) == Thresholds(
        0.5, 20.0, why="the operating points of the runs", each=(*own[:2], Threshold(0.4, 50.0))
    )
    assert forget_point(runs[0]) and not forget_point(runs[0])
    assert thresholds_of(runs[:1]) == Thresholds()


def test_where_sizes_cannot_be_measured_the_threshold_that_was_best_alone_is_used(run: Run) -> None:
    point(run, threshold=0.35, minimum=20.0, alone=0.45)
    setting = thresholds_of([run], spacing_known=False)
    assert (setting.threshold, setting.minimum_mm3) == (0.45, 0)
    assert "voxel size is not known" in setting.why
    point(run, threshold=0.35, minimum=20.0, alone=0.45, unit="voxels")
    assert (thresholds_of([run]).threshold, thresholds_of([run]).minimum_mm3) == (0.45, 0)


def test_prediction_uses_it_unless_told_otherwise(run: Run, dataset: Dataset) -> None:
    scan = dataset.path(dataset.cases[1], "scan")
    point(run, threshold=0.35, minimum=500.0)
    used = predict(scan, [run])
    assert (used.report.threshold, used.report.minimum_mm3) == (0.35, 500)
    assert used.report.operating == "threshold 0.35, parts from 500 mm³: the operating point of the run"
    assert predict(scan, [run], threshold=0.35, minimum_mm3=500).report.mask == used.report.mask
    plain = predict(scan, [run], threshold=0.5)
    assert (plain.report.threshold, plain.report.minimum_mm3, plain.report.operating) == (0.5, 0, "")
    assert plain.report.mask != used.report.mask
    assert predict(scan, [run], minimum_mm3=0).report.mask == plain.report.mask, "the two belong together"


def test_each_model_votes_at_its_own_threshold(make_run: Callable[..., Run], dataset: Dataset) -> None:
    """Three models of one answer and three thresholds: the vote is the mask at the middle one, not at 0.5."""
    runs = [make_run(id) for id in "abc"]
    for run, threshold in zip(runs, (0.2, 0.7, 0.9), strict=True):
        point(run, threshold=threshold)
    scan = dataset.path(dataset.cases[1], "scan")
    used = predict(scan, runs, threshold=None, combine="vote")
    alone = [predict(scan, [run], threshold=None) for run in runs]
    for run, one in zip(runs, alone, strict=True):
        np.testing.assert_array_equal(used.mask_of(run.id), one.mask)
    np.testing.assert_array_equal(used.mask, sum(one.mask for one in alone) >= 2)
    np.testing.assert_array_equal(used.mask, alone[1].mask)
    assert (used.mask != predict(scan, runs, threshold=0.5, combine="vote").mask).any(), (
        "0.5 would give the same: the test shows nothing"
    )
    checked = read_scan(scan)
    answers = ask(checked, runs, Spool())
    later = predict_at(checked, answers, thresholds_of(runs), combine="vote")
    assert (later.report.mask, later.report.operating) == (used.report.mask, used.report.operating)


def test_each_model_leaves_out_what_is_too_small_for_it(make_run: Callable[..., Run], dataset: Dataset) -> None:
    runs = [make_run(id) for id in "abc"]
    scan = dataset.path(dataset.cases[1], "scan")
    plain = predict(scan, runs[:1], threshold=0.35).report
    assert plain.mask.lesions > 1 and plain.scan.voxel_ml
    largest = plain.mask.largest_voxels * plain.scan.voxel_ml * 1000
    for run, minimum in zip(runs, (0.0, largest, 2 * largest), strict=True):
        point(run, threshold=0.35, minimum=minimum)
    used = predict(scan, runs, threshold=None).report
    sizes = [model.mask.voxels for model in used.models]
    assert sizes == [plain.mask.voxels, plain.mask.largest_voxels, 0]
    assert used.minimum_mm3 == largest
    assert used.mask.voxels == plain.mask.largest_voxels


@pytest.fixture
def covseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command: its exit code, what it says, and what it complains about."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["covseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        out, err = capsys.readouterr()
        return int(exit.value.code or 0), out, err

    return call


def test_on_the_command_line(
    make_run: Callable[..., Run], dataset: Dataset, covseg: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    make_run("a")
    make_run("b", width=60.0)
    code, out, err = covseg("operating-point", "a", "b", "--few")
    assert (code, err) == (0, "")
    points = {id: read_point(Run(Path(os.environ["COVSEG_CHECKPOINTS"]) / id)) for id in "ab"}
    for chosen in points.values():
        assert chosen is not None and f"{chosen.score:.4f}" in out
    assert "validation" in out
    scan = dataset.path(dataset.cases[0], "scan")
    chosen = points["a"]
    assert chosen is not None
    code, out, err = covseg("predict", scan, "--run", "a", "--output", tmp_path / "one")
    assert (code, err) == (0, "")
    assert f"{chosen.words}: the operating point of the run" in out
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert (report["threshold"], report["minimum_mm3"]) == (chosen.threshold, chosen.minimum)
    code, out, _ = covseg("predict", scan, "--run", "a", "b", "--output", tmp_path / "two")
    both = [chosen for chosen in points.values() if chosen is not None]
    assert out.count("each model at its own") == 1 and ": the operating points of the runs\n" in out
    assert all(chosen.words in out for chosen in both)
    report = json.loads((tmp_path / "two" / "report.json").read_text())
    assert report["threshold"] is None
    assert [model["threshold"] for model in report["models"]] == [chosen.threshold for chosen in both]
    sheet = (tmp_path / "two" / "report.html").read_text()
    assert f"in their order: {'; '.join(chosen.words for chosen in both)}." in sheet
    rows = list(csv.DictReader((tmp_path / "two" / "report.csv").read_text().splitlines()))
    assert [row["threshold"] for row in rows[:3]] == ["", *(str(chosen.threshold) for chosen in both)]
    assert [float(row["minimum_mm3"]) for row in rows[1:3]] == [chosen.minimum for chosen in both]
    for options, used in ((["--threshold", "0.45"], (0.45, 0)), (["--min-size", "20"], (0.5, 20))):
        code, out, _ = covseg("predict", scan, "--run", "a", "b", "--output", tmp_path / "alike", *options)
        assert "operating point" not in out
        report = json.loads((tmp_path / "alike" / "report.json").read_text())
        assert (report["threshold"], report["minimum_mm3"], report["operating"]) == (*used, "")
        assert {(model["threshold"], model["minimum_mm3"]) for model in report["models"]} == {used}
    for options in (["--threshold", "0.5"], ["--min-size", "0"]):
        code, out, _ = covseg("predict", scan, "--run", "a", "--output", tmp_path / options[0], *options)
        assert "operating point" not in out
        assert json.loads((tmp_path / options[0] / "report.json").read_text())["threshold"] == 0.5
    assert "the operating point of the run" in (tmp_path / "one" / "report.html").read_text()
    code, out, _ = covseg("operating-point", "a", "--json", "--few")
    assert json.loads(out)[0]["run"] == "a" and json.loads(out)[0]["chosen_on"] == "validation"
    code, out, _ = covseg("operate", "a", "--reset")
    assert (code, out) == (0, "a: back to threshold 0.5\n"), "the name it had before still works"
    code, out, err = covseg("operating-point", "missing")
    assert code == 2 and err.startswith("covseg: missing: no such run")
