"""Evaluation. What a user loses otherwise: an honest answer to which of the models is better, and by how much."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakeruns import SIZE, save_model

from covseg_core.config import METRICS, Metric, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Case, Dataset, dataset_folder, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.data.slices.slices import to_native
from covseg_core.data.splitting.split import make_split
from covseg_core.errors import DatasetError, RunError, SettingError
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.evaluate import evaluate_run, evaluate_runs
from covseg_core.evaluation.measures import MEASURES, count, overlap, surface_measures
from covseg_core.evaluation.results import Evaluation, OwnScore, SeedScores
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, Summary, score_case, summarise
from covseg_core.files import read_json, write_json
from covseg_core.runs import Run, create_run


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def make_run(dataset: Dataset) -> Callable[..., Run]:
    def make(
        id: str = "run", metric: Metric = "dice", split: SplitConfig | None = None, limit: float = 90, **values: object
    ) -> Run:
        config = RunConfig(
            id=id,
            experiment="experiment",
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            metric=metric,
            preset="quick",
            created="2024-01-01T00:00:00.000000+00:00",
            prepare=PrepareConfig(size=SIZE),
            split=split or SplitConfig(fractions=(0.4, 0.2, 0.4)),
        )
        config = dataclasses.replace(config, **values)  # type: ignore[arg-type]
        run = create_run(config, make_split(dataset, config.split, config.target))
        save_model(run.onnx, limit)
        run.write_history([{"epoch": 1, "loss": 0.5, "seconds": 2.5}, {"epoch": 2, "loss": 0.4, "seconds": 1.5}])
        return run

    return make


def by_hand(dataset: Dataset, case: Case, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction for a whole scan on its own grid, the slow and obvious way."""
    prepare = PrepareConfig(size=SIZE)
    probabilities = (prepared(dataset, case, prepare, "images") > limit).astype(np.float32)
    prediction = to_native(probabilities, case_grid(dataset, case, prepare)) >= 0.5
    return load_mask(dataset.path(case, "infection")).voxels > 0, prediction


def test_scores_are_those_of_the_masks_on_the_scans_own_grid(dataset: Dataset, make_run: Callable[..., Run]) -> None:
    run = make_run()
    evaluation = evaluate_run(run)
    assert sorted(run.split.test) == [scan.case for scan in evaluation.model.scans]
    pairs = [by_hand(dataset, dataset.case(scan.case), 90) for scan in evaluation.model.scans]
    for scan, pair in zip(evaluation.model.scans, pairs, strict=True):
        case = dataset.case(scan.case)
        values = overlap(count(*pair)) | surface_measures(*pair, case.spacing)
        assert scan.values["dice"] == pytest.approx(values["dice"])
        assert scan.values["hd95"] == pytest.approx(values["hd95"])
        voxel = math.prod(case.spacing) / 1000
        assert scan.values["volume_difference"] == pytest.approx(voxel * (pair[1].sum() - float(pair[0].sum())))
        empty = ~pair[0].any((1, 2))
        assert scan.values["false_positive_volume"] == pytest.approx(voxel * pair[1][empty].sum())
    assert evaluation.units == {"distance": "mm", "volume": "mL"}
    counts = sum((count(*pair) for pair in pairs[1:]), count(*pairs[0]))
    assert evaluation.model.pooled["iou"] == pytest.approx(overlap(counts)["iou"])
    assert evaluation.model.over_scans["dice"].n == len(pairs)
    lowest = min(scan.values["dice"] for scan in evaluation.model.scans if scan.values["dice"] is not None)
    assert evaluation.model.over_scans["dice"].low == lowest


def test_an_evaluation_says_what_it_is_about(dataset: Dataset, make_run: Callable[..., Run]) -> None:
    evaluation = evaluate_run(make_run())
    assert (evaluation.scans, evaluation.patients, evaluation.slices) == (2, 2, 16)
    cases = [dataset.case(scan.case) for scan in evaluation.model.scans]
    assert evaluation.positive_slices == sum(np.count_nonzero(case.infection_voxels) for case in cases)
    assert (evaluation.part, evaluation.split, evaluation.leaky, evaluation.policy) == ("test", "patient", False, "nan")
    assert (evaluation.training_seconds, evaluation.epochs) == (4.0, 2)
    assert any("chance" in note for note in evaluation.notes)
    assert list(evaluation.model.pooled) == list(MEASURES)
    assert [scores.name for scores in evaluation.baselines] == ["background", "lung", "threshold"]


def test_the_all_background_baseline_shows_what_accuracy_is_worth(make_run: Callable[..., Run]) -> None:
    background = evaluate_run(make_run(limit=255)).baselines[0]
    assert background.pooled["dice"] == background.pooled["precision"] == 0
    assert background.pooled["accuracy"] is not None
    assert background.pooled["accuracy"] > 0.9


def test_a_model_that_finds_nothing_is_scored_and_not_dropped(make_run: Callable[..., Run]) -> None:
    evaluation = evaluate_run(make_run(limit=255))
    for score in evaluation.model.slices:
        if score.counts.truth:
            assert (score.values["dice"], score.values["nsd"], score.values["precision"]) == (0, 0, 0)
            assert score.values["hd95"] is not None
        else:
            assert score.values["dice"] is None, "both empty, policy nan"
    assert evaluation.model.over_slices["dice"].n == evaluation.positive_slices
    perfect = evaluate_run(Run(make_run("again", limit=255).folder), policy="one")
    assert perfect.model.over_slices["dice"].n == perfect.slices


def test_another_policy_gives_what_an_evaluation_under_it_would(make_run: Callable[..., Run]) -> None:
    """Otherwise the choice on the page and on the command line would be two different ones."""
    for split in (None, SplitConfig("slice", (0.4, 0.2, 0.4))):
        runs = [make_run(f"{id(split)}-{limit}", limit=limit, split=split) for limit in (90, 160, 255)]
        found = {policy: evaluate_runs(runs, policy=policy) for policy in ("nan", "one")}
        empty = found["one"].evaluations[2].model.slices
        assert any(score.values["hd95"] == 0 for score in empty), "there is something to decide"
        for policy, other in (("nan", "one"), ("one", "nan")):
            converted = with_policy(found[other], policy)
            for one, expected in zip(converted.evaluations, found[policy].evaluations, strict=True):
                assert dataclasses.replace(one, created=expected.created) == expected


def test_files_of_the_run_hold_the_same(dataset: Dataset, make_run: Callable[..., Run]) -> None:
    run = make_run()
    evaluation = evaluate_run(run)
    assert read_json(run.evaluation, Evaluation) == evaluation
    kept = np.load(run.folder / str(evaluation.predictions), allow_pickle=False)
    assert kept.shape == (evaluation.slices, SIZE, SIZE)
    assert kept.dtype == np.float16
    for row, score in zip(kept, evaluation.model.slices, strict=True):
        image = prepared(dataset, dataset.case(score.case), PrepareConfig(size=SIZE), "images")[score.z]
        np.testing.assert_array_equal(row, image > 90)


@pytest.mark.parametrize("metric", ["accuracy", "iou", "dice"])
def test_own_scores_are_in_the_metric_of_the_run(
    dataset: Dataset, make_run: Callable[..., Run], metric: Metric
) -> None:
    run = make_run(metric=metric)
    own = evaluate_run(run).own
    assert own.metric == METRICS[metric].score

    def pooled(ids: list[str]) -> float:
        masks, images = [], []
        for id in ids:
            masks.append(prepared(dataset, dataset.case(id), PrepareConfig(size=SIZE), "infection"))
            images.append(prepared(dataset, dataset.case(id), PrepareConfig(size=SIZE), "images"))
        return overlap(count(np.concatenate(masks), np.concatenate(images) > 90))[metric]

    assert own.test == pytest.approx(pooled(list(run.split.test)))
    assert own.train_validation == pytest.approx(pooled([*run.split.train, *run.split.validation]))


def test_new_weights_get_a_new_training_score(make_run: Callable[..., Run]) -> None:
    run = make_run()
    first = evaluate_run(run).own
    assert evaluate_run(run).own == first
    save_model(run.onnx, 200)
    assert evaluate_run(run).own.train_validation != first.train_validation


def test_a_split_by_slice_is_called_leaky_and_gets_no_surface_measures_of_scans(make_run: Callable[..., Run]) -> None:
    evaluation = evaluate_run(make_run(split=SplitConfig("slice", (0.4, 0.2, 0.4))))
    assert evaluation.leaky
    assert set(evaluation.seen_patients) <= {score.patient for score in evaluation.model.slices}
    assert all(scan.values["hd95"] is None for scan in evaluation.model.scans)
    assert "hd95" not in evaluation.model.over_scans
    assert evaluation.model.over_slices["hd95"].n > 0
    assert any("No HD95" in note for note in evaluation.notes)


def test_unknown_voxel_size_gives_no_millimetres_and_no_millilitres(
    dataset: Dataset, make_run: Callable[..., Run]
) -> None:
    cases = tuple(dataclasses.replace(case, spacing_known=False) for case in dataset.cases)
    write_json(dataset_folder(dataset.name) / "dataset.json", dataclasses.replace(dataset, cases=cases))
    evaluation = evaluate_run(make_run())
    assert not evaluation.spacing_known
    assert evaluation.units == {"distance": "px", "volume": "voxels"}
    assert any("Voxel size unknown" in note for note in evaluation.notes)
    for scan in evaluation.model.scans:
        assert scan.values["volume_difference"] == scan.counts.fp - scan.counts.fn
        pair = by_hand(dataset, dataset.case(scan.case), 90)
        assert scan.values["hd95"] == pytest.approx(surface_measures(*pair, (1, 1, 1))["hd95"])


def test_runs_are_compared_on_the_same_slices(make_run: Callable[..., Run]) -> None:
    runs = [make_run(f"run-{metric}", metric, limit=limit) for metric, limit in (("accuracy", 90), ("dice", 120))]
    seen: list[tuple[int, int]] = []
    comparison = evaluate_runs(runs, progress=lambda done, total: seen.append((done, total)))
    first, second = comparison.evaluations
    assert [(s.case, s.z) for s in first.model.slices] == [(s.case, s.z) for s in second.model.slices]
    assert first.model != second.model
    assert comparison.baselines == first.baselines == second.baselines
    learned = sum(len(zs) for run in runs for part in (run.split.train, run.split.validation) for zs in part.values())
    assert seen[-1] == (first.slices + learned, first.slices + learned), "a full bar, and only at the end"
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    seen.clear()
    evaluate_runs(runs, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (first.slices, first.slices), "what is known of these weights is not computed again"
    (alone,) = evaluate_runs([runs[1], runs[1]]).evaluations
    assert alone.model == second.model, "neither the company nor naming it twice changes a score"


def test_runs_without_a_common_test_part_are_refused_with_their_names(
    dataset: Dataset, make_run: Callable[..., Run]
) -> None:
    first, other = make_run("first"), make_run("other", split=SplitConfig(fractions=(0.4, 0.4, 0.2), seed=5))
    assert first.split.test != other.split.test
    with pytest.raises(RunError, match=r"^first and other: different test parts"):
        evaluate_runs([first, other])
    with pytest.raises(RunError, match=r"different targets \(infection and lung\)"):
        evaluate_runs([first, make_run("lungs", target="lung")])
    with pytest.raises(RunError, match=r"different datasets \(phantoms and elsewhere\)"):
        evaluate_runs([first, make_run("abroad", dataset="elsewhere")])


def test_runs_of_different_splits_meet_on_what_none_has_learned_from(
    dataset: Dataset, make_run: Callable[..., Run]
) -> None:
    runs = [make_run(f"run-{seed}", split=SplitConfig("slice", (0.3, 0.2, 0.5), seed)) for seed in (0, 1)]
    comparison = evaluate_runs(runs, dataset.name)
    for run in runs:
        tested = {(id, z) for id, rows in run.split.test.items() for z in rows}
        assert {(score.case, score.z) for score in comparison.evaluations[0].model.slices} < tested
        assert not run.evaluation.exists(), "not the run's own test part"


def test_another_dataset_is_scored_whole_and_shared_scans_are_recognised(
    dataset: Dataset, make_run: Callable[..., Run]
) -> None:
    run = make_run()
    shutil.copytree(dataset.folder, dataset_folder("copy"))
    write_json(dataset_folder("copy") / "dataset.json", dataclasses.replace(dataset, name="copy"))
    evaluation = evaluate_run(run, "copy")
    assert (evaluation.part, evaluation.slices, evaluation.predictions) == ("all", 40, None)
    assert evaluation.leaky
    assert set(evaluation.seen_patients) == {*run.split.train, *run.split.validation}
    assert not run.evaluation.exists()
    assert evaluation.own.train_validation is not None


def test_a_stranger_with_the_name_of_a_patient_seen_gets_a_note(
    dataset: Dataset, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run()
    (case,) = write_sample(tmp_path / "strangers", scans=1, size=48, slices=8, seed=9)
    namesake = next(iter(run.split.train))
    import_dataset("namesakes", [case.rename(case.with_name(namesake))])
    evaluation = evaluate_run(run, "namesakes")
    assert not evaluation.leaky
    assert any(f"same name: {namesake}." in note for note in evaluation.notes)


def test_lung_models_are_not_held_against_the_answer(make_run: Callable[..., Run]) -> None:
    evaluation = evaluate_run(make_run(target="lung"))
    assert [scores.name for scores in evaluation.baselines] == ["background", "classical"]
    assert evaluation.baselines[1].pooled["dice"] != 1


def test_stacked_slices_are_patients_of_their_own(dataset: Dataset) -> None:
    case = dataclasses.replace(dataset.cases[0], stacked=True)
    truth = load_mask(dataset.path(case, "infection")).voxels
    scan, slices = score_case(case, range(8), truth, truth, None, "nan")
    assert len({score.patient for score in slices}) == 8
    assert not scan.whole
    assert scan.values["hd95"] is None
    assert scan.values["dice"] == 1


def test_a_single_scan_has_no_spread(dataset: Dataset) -> None:
    case = dataset.cases[0]
    truth = load_mask(dataset.path(case, "infection")).voxels
    scan, slices = score_case(case, range(8), truth, truth, case.spacing, "nan")
    summary = summarise("model", "", [scan], slices, "nan").over_scans["dice"]
    assert (summary.mean, summary.std, summary.n) == (1, None, 1)


def test_every_field_of_the_file_is_documented() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "run-folder.md"
    text = page.read_text(encoding="utf-8")
    text = text[text.index("## `evaluation.json`") : text.index("## What `covseg evaluate` prints as JSON")]
    kinds = (Evaluation, OwnScore, SeedScores, Scores, Summary, ScanScore, SliceScore)
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert names == {name for name in names if f"`{name}`" in text}


def test_what_the_user_can_mend_is_said(dataset: Dataset, make_run: Callable[..., Run]) -> None:
    run = make_run()
    with pytest.raises(SettingError, match="policy"):
        evaluate_run(run, policy="zero")  # type: ignore[arg-type]
    with pytest.raises(DatasetError):
        evaluate_run(run, "nowhere")
    with pytest.raises(RunError):
        evaluate_runs([])
    with pytest.raises(RunError, match="no slice is in the test part"):
        other = make_run("other", split=SplitConfig(fractions=(0.4, 0.2, 0.4), seed=0))
        split = dataclasses.replace(run.split, test=run.split.train, train=run.split.test)
        write_json(other.folder / "split.json", split)
        evaluate_runs([run, other], dataset.name)
    fewer = dataclasses.replace(dataset, cases=dataset.cases[:-1])
    write_json(dataset_folder(dataset.name) / "dataset.json", fewer)
    with pytest.raises(RunError, match="has changed since"):
        evaluate_run(run)
    run.onnx.unlink()
    with pytest.raises(RunError, match="covseg export run"):
        evaluate_run(run)


def test_corrected_masks_are_scored_on_what_the_run_has_not_learned_from(
    dataset: Dataset, make_run: Callable[..., Run]
) -> None:
    """Its own patients are in that dataset, too: scored as strangers they would flatter it."""
    run = make_run()
    before = evaluate_run(run)
    id = next(id for id in sorted(run.split.test) if sum(dataset.case(id).infection_voxels or ()))
    now = save_revision(dataset.name, id, 1 - stored_mask(dataset, dataset.case(id), "infection")).dataset
    again = evaluate_run(run)
    assert again.fingerprint == before.fingerprint == run.config.fingerprint
    assert again.model == before.model, "its own revision is what it was"
    assert load_dataset(dataset.name).fingerprint == now.fingerprint
    corrected = evaluate_run(run, dataset.name)
    assert corrected.fingerprint == now.fingerprint
    assert (corrected.part, corrected.leaky, corrected.predictions) == ("test", False, None)
    assert [(one.case, one.z) for one in corrected.model.slices] == [(one.case, one.z) for one in before.model.slices]
    truth = {scan.case: scan.counts.truth for scan in corrected.model.scans}
    assert truth[id] == sum(now.case(id).infection_voxels or ())
    assert run.test_predictions.exists()
    assert read_json(run.evaluation, Evaluation).fingerprint == before.fingerprint, (
        "what is kept is of its own revision"
    )
    assert evaluate_run(run, f"{dataset.name}@1").model == before.model


def test_cases_that_were_added_later_are_new_to_a_run(
    dataset: Dataset, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run()
    write_sample(tmp_path, scans=1, size=48, slices=8, seed=7)
    (tmp_path / "phantom_001").rename(tmp_path / "stranger")
    import_dataset(dataset.name, [tmp_path / "stranger"], allow_empty=True)
    assert evaluate_run(run).fingerprint == dataset.fingerprint, "it is scored on what it was made from"
    scored = evaluate_run(run, dataset.name)
    assert {scan.case for scan in scored.model.scans} == {*run.split.test, "stranger"}
    assert not scored.leaky


def test_runs_of_two_revisions_are_compared_on_a_named_one(dataset: Dataset, make_run: Callable[..., Run]) -> None:
    first = make_run()
    id = sorted(first.split.test)[0]
    now = save_revision(dataset.name, id, 1 - stored_mask(dataset, dataset.case(id), "infection")).dataset
    second = make_run("second", fingerprint=now.fingerprint, revision=2)
    with pytest.raises(RunError, match=r"different revisions \(phantoms@1 and phantoms@2\)"):
        evaluate_runs([first, second])
    comparison = evaluate_runs([first, second], dataset.name)
    assert {one.fingerprint for one in comparison.evaluations} == {now.fingerprint}
    assert {scan.case for scan in comparison.evaluations[0].model.scans} == set(first.split.test)


def test_scans_in_any_file_order_are_scored_alike(dataset: Dataset, make_run: Callable[..., Run]) -> None:
    """A flip lost between file, slice and truth would put healthy lung where the lesion is."""
    shutil.copytree(dataset.folder, dataset_folder("copy"))
    write_json(dataset_folder("copy") / "dataset.json", dataclasses.replace(dataset, name="copy"))
    orientations = set()
    for scan in evaluate_run(make_run(), "copy").model.scans:
        if scan.counts.truth:
            case = dataset.case(scan.case)
            direct = to_uint8(load_scan(dataset.path(case, "scan")).voxels, case.scale) > 90
            expected = overlap(count(load_mask(dataset.path(case, "infection")).voxels, direct))["sensitivity"]
            assert scan.values["sensitivity"] == pytest.approx(expected, abs=0.1)
            orientations.add(case.orientation)
    assert len(orientations) > 1
