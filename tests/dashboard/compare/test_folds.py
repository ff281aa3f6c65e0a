"""Cross-validation on the pages. What a user loses otherwise: fifteen runs that nobody can put together by hand."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pages
import pandas as pd
import pytest
from fakeruns import SIZE, fake_folds, fake_run
from pages import open_page

from covseg_core.config import METRICS, Metric, PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.slices import to_native
from covseg_core.errors import RunError
from covseg_core.evaluation import comparable
from covseg_core.evaluation.cross_validation.evaluate import evaluate_folds
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.stored_predictions import slice_ranking
from covseg_core.evaluation.stored_predictions.predictions import read_predictions
from covseg_core.evidence.verify import verify_bundle
from covseg_core.files import read_json
from covseg_core.runs import Run, jobs, open_run, time_estimate
from dashboard.app_pages.compare import export_files
from dashboard.app_pages.monitor import run_progress
from dashboard.app_pages.predict import offered_models
from dashboard.services import model_catalog

LIMITS: dict[Metric, float] = {"iou": 90, "dice": 120}


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def folds(dataset: Dataset) -> list[Run]:
    return fake_folds(dataset, LIMITS, 3)


def by_hand(dataset: Dataset, id: str, limit: float) -> np.ndarray:
    case, prepare = dataset.case(id), PrepareConfig(size=SIZE)
    probabilities = (prepared(dataset, case, prepare, "images") > limit).astype(np.float32)
    return to_native(probabilities, case_grid(dataset, case, prepare)) >= 0.5


def limit_of(folds: list[Run], metric: Metric, case: str) -> float:
    """Of the model that has not seen the case."""
    [run] = [run for run in folds if run.config.metric == metric and case in run.split.test]
    return LIMITS[metric] + 5 * run.config.split.fold


def chosen() -> list[Model]:
    return model_catalog.finished_models()


def test_the_folds_of_a_metric_are_one_entry_and_all_is_there(folds: list[Run]) -> None:
    evaluate_folds(folds)
    app = open_page("compare")
    assert app.multiselect[0].value == ["experiment-iou", "experiment-dice"]
    assert [label.split(" · ")[:4] for label in app.multiselect[0].options] == [
        ["IoU", "phantoms", "quick", "3 folds"],
        ["Dice", "phantoms", "quick", "3 folds"],
    ]
    conditions = next(text.value for text in app.markdown if "split by" in text.value)
    for said in ("n = 40 slices", "5 scans", "5 patients", "split by patient, 3 folds"):
        assert said in conditions
    assert any("Every patient is tested once" in info.value for info in app.info)
    assert list(app.dataframe[0].value["Run"]) == ["experiment-iou", "experiment-dice"]
    assert len(open_page("compare", tab="Slices").selectbox(key="compare-case").options) == 5
    assert all(box.label != "Scored on" for box in app.selectbox), "together they have learned from everybody"
    assert not app.error


def test_folds_that_were_not_scored_are_by_one_click(folds: list[Run]) -> None:
    app = open_page("compare")
    assert "has not been scored yet" in app.info[0].value
    [button] = [button for button in app.button if button.label == "Score these models on the same slices"]
    button.click().run()
    pages.wait(app)
    app.run()
    assert not app.exception
    assert any("n = 40 slices" in text.value for text in app.markdown)
    assert all(run.evaluation.exists() for run in folds)


def test_every_slice_is_shown_with_the_model_that_has_not_seen_it(folds: list[Run], dataset: Dataset) -> None:
    """A picture by a model that has learned from the patient would be too good to be true."""
    comparison = evaluate_folds(folds)
    for model in chosen():
        values, rows = model.predictions()
        assert len(values) == 40
        for number, score in enumerate(comparison.evaluations[0].model.slices):
            assert rows[score.case][score.z] == number
            image = prepared(dataset, dataset.case(score.case), PrepareConfig(size=SIZE), "images")[score.z]
            expected = image > limit_of(folds, model.config.metric, score.case)
            np.testing.assert_array_equal(values[number], expected)
            np.testing.assert_array_equal(values[number : number + 1], expected[np.newaxis])
    app = open_page("compare", tab="Slices")
    for label in ("Worst slice", "Best slice", "Most disagreed"):
        next(button for button in app.button if button.label == label).click().run()
        assert not app.exception
        assert any(label in caption.value for caption in app.caption)


def test_disagreement_and_masks_are_those_of_the_folds(folds: list[Run], dataset: Dataset, tmp_path: Path) -> None:
    comparison, runs = evaluate_folds(folds), chosen()
    differing = slice_ranking.disagreement(comparison, dataset, runs)
    for pixels, score in zip(differing, comparison.evaluations[0].model.slices, strict=True):
        first, second = (
            by_hand(dataset, score.case, limit_of(folds, metric, score.case))[score.z] for metric in LIMITS
        )
        assert pixels == np.count_nonzero(first != second)
    case = dataset.cases[-1].id
    with zipfile.ZipFile(io.BytesIO(export_files.masks_zip(comparison, runs, dataset, case, 0.5))) as archive:
        archive.extractall(tmp_path)
    mask = nib.as_closest_canonical(nib.load(tmp_path / "mask_experiment-dice.nii.gz"))
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T, by_hand(dataset, case, limit_of(folds, "dice", case)))


def test_predictions_of_all_folds_come_row_by_row_with_their_names(folds: list[Run]) -> None:
    """A row under another slice's name is a figure that nobody can reproduce."""
    comparison, runs = evaluate_folds(folds), chosen()
    with export_files.predictions_zip(comparison, runs) as file, zipfile.ZipFile(file) as archive:
        assert isinstance(file, io.RawIOBase), "the download button takes no other kind of temporary file"
        assert archive.testzip() is None
        rows = pd.read_csv(archive.open("rows.csv"))
        kept = {run.id: np.load(io.BytesIO(archive.read(f"{run.id}.npy")), allow_pickle=False) for run in runs}
    assert list(kept) == ["experiment-iou", "experiment-dice"]
    places = {where: row for row, where in enumerate(zip(rows["scan"], rows["slice"], strict=True))}
    assert len(places) == len(rows) == 40 and list(rows["row"]) == list(range(40))
    seen = 0
    for run in folds:
        own = np.load(run.test_predictions, allow_pickle=False)
        scores = read_json(run.evaluation, Evaluation).model.slices
        values = kept[f"experiment-{run.config.metric}"]
        assert (values.dtype, values.shape) == (np.float16, (40, SIZE, SIZE))
        for row, score in zip(own, scores, strict=True):
            np.testing.assert_array_equal(values[places[score.case, score.z]], row)
            seen += 1
    assert seen == 80, "every slice, by each of the two models"


def test_predictions_of_slices_that_lie_in_several_folds_keep_their_names(dataset: Dataset) -> None:
    """By slice, neighbours come from different files."""
    runs = fake_folds(dataset, {"dice": 100}, 3, "slice")
    comparison, [run] = evaluate_folds(runs), chosen()
    with export_files.predictions_zip(comparison, [run]) as file, zipfile.ZipFile(file) as archive:
        rows = pd.read_csv(archive.open("rows.csv"))
        values = np.load(io.BytesIO(archive.read(f"{run.id}.npy")), allow_pickle=False)
    for row, case, z in zip(values, rows["scan"], rows["slice"], strict=True):
        [fold] = [one.config.split.fold for one in runs if z in one.split.test.get(case, ())]
        image = prepared(dataset, dataset.case(case), PrepareConfig(size=SIZE), "images")[z]
        np.testing.assert_array_equal(row, image > 100 + 5 * fold)


def test_predictions_that_are_not_those_that_were_scored_are_refused(folds: list[Run]) -> None:
    comparison, runs = evaluate_folds(folds), chosen()
    np.save(folds[2].test_predictions, np.load(folds[2].test_predictions)[1:])
    with pytest.raises(RunError, match="test_predictions.npy"):
        export_files.predictions_zip(comparison, runs)
    for run in runs:
        short = dataclasses.replace(comparison.evaluations[0].model, slices=comparison.evaluations[0].model.slices[1:])
        evaluation = dataclasses.replace(comparison.evaluations[0], model=short)
        with pytest.raises(RunError):
            export_files.predictions_zip(dataclasses.replace(comparison, evaluations=(evaluation,)), [run])


def test_the_evidence_of_folds_that_is_downloaded_can_be_verified(folds: list[Run], tmp_path: Path) -> None:
    evaluate_folds(folds)
    runs = chosen()[::-1]
    comparison, _ = comparable.compared(runs)
    assert comparison is not None
    with export_files.evidence_zip(comparison, runs) as file:
        (tmp_path / "evidence.zip").write_bytes(file.read())
    result = verify_bundle(tmp_path / "evidence.zip")
    assert result.same
    assert [check.run for check in result.runs] == ["experiment-dice", "experiment-iou"], "as on the page"


def test_files_of_folds_are_offered_and_made_only_when_asked_for(
    folds: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles of fifteen runs in every rerun of the page would make it stand still."""
    evaluate_folds(folds)
    asked: list[str] = []
    for name in ("predictions_zip", "evidence_zip", "tables_zip", "masks_zip"):
        monkeypatch.setattr(export_files, name, lambda *args, name=name: asked.append(name))
    app = open_page("compare", tab="Export")
    labels = [button.label for button in app.get("download_button")]
    assert {"Test predictions (.npy)", "Evidence (zip)", "Tables (CSV)"} <= set(labels)
    assert not asked


def test_the_first_fold_can_be_compared_while_the_others_train(folds: list[Run]) -> None:
    for run in folds[2:]:
        run.write_status(dataclasses.replace(run.status, state="stopped"))
    evaluate_folds(folds)
    app = open_page("compare")
    assert "1 of 3 folds" in app.multiselect[0].options[0]
    assert any("Only 1 of 3 folds" in info.value for info in app.info)


def test_folds_and_a_single_split_do_not_stand_in_one_table(folds: list[Run], dataset: Dataset) -> None:
    single = fake_run(dataset, "single-dice", "dice", SplitConfig(fractions=(0.4, 0.2, 0.4)), 90, experiment="single")
    evaluate_folds(folds)
    app = open_page("compare", runs=f"experiment-dice,{single.id}")
    assert comparable.APART in app.info[0].value
    assert not app.dataframe


def test_what_is_put_together_is_not_put_together_twice(folds: list[Run]) -> None:
    evaluate_folds(folds)
    first, why = comparable.compared(chosen())
    assert why == ""
    assert comparable.compared(chosen())[0] is first
    assert first is not None
    assert [one.run for one in first.evaluations] == ["experiment-iou", "experiment-dice"]


def test_a_fold_by_itself_is_no_part_of_all(folds: list[Run]) -> None:
    """What belongs to all folds must not be read from the folder of the first."""
    evaluate_folds(folds)
    [model, _] = chosen()
    assert model.folds == (1, 2, 3) and len(model.runs) == 3
    assert model.config.id == model.id == "experiment-iou"
    assert sum(map(len, model.test.values())) == 40
    assert len(model.predictions().values) == 40 > len(read_predictions(model.runs[0]).values)


def test_curves_tell_folds_apart_and_all_folds_of_a_metric_predict(folds: list[Run]) -> None:
    known, _ = model_catalog.listed_runs()
    assert list(run_progress.names(known, None).values()) == [
        f"{metric} · fold {fold}" for fold in (1, 2, 3) for metric in ("IoU", "Dice")
    ]
    models = offered_models.offered()
    assert len(models) == 6
    assert "fold 1 of 3" in models[0].label
    chosen = offered_models.preselected(models)
    assert [open_run(id).config.split.fold for id in chosen] == [1, 2, 3]
    assert {open_run(id).config.metric for id in chosen} == {"dice"}


def test_the_form_says_what_folds_test_and_how_long_they_take(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = time_estimate.Speed(0.01, "measured", "CPU")
    monkeypatch.setattr(time_estimate, "find_speed", lambda network: speed)
    app = open_page("train")
    app.number_input(key="train-folds").set_value(4).run()
    assert not app.exception
    assert any("Split into 4 folds" in text.value for text in app.markdown)
    [table] = [frame.value for frame in app.dataframe if "Fold" in frame.value.columns]
    assert list(table["Fold"]) == [1, 2, 3, 4]
    assert table["Test slices"].sum() == 40
    assert any("for 12 trainings of 16 epochs" in text.value for text in app.markdown)
    asked: list[object] = []
    monkeypatch.setattr(jobs, "train", lambda *args, **settings: asked.append(settings["folds"]) or [])
    next(button for button in app.button if button.label == "Start training").click().run()
    assert asked == [4]
    app = open_page("train")
    app.number_input(key="train-folds").set_value(5).run()
    assert any("at least 6 for 5 folds" in error.value for error in app.error)


def test_all_folds_are_stopped_and_resumed_by_one_click(folds: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody clicks fifteen times, while the next one starts."""
    for run in folds:
        run.write_status(dataclasses.replace(run.status, state="queued"))
        run.write_history([dict.fromkeys(("epoch", "loss", "val_loss", "seconds", "total_seconds", *_SCORES), 1.0)])
    app = open_page("monitor")
    next(button for button in app.button if button.label == "Stop all 6").click().run()
    assert not app.exception
    assert all(run.stop_file.exists() for run in folds)
    for run in folds:
        run.write_status(dataclasses.replace(run.status, state="stopped"))
    started: list[str] = []
    monkeypatch.setattr(jobs, "start", lambda run, lock: started.append(run.id))
    app = open_page("monitor")
    next(button for button in app.button if button.label == "Resume all 6").click().run()
    assert started == [run.id for run in folds], "in the order in which they were queued at first"
    assert not any(run.stop_file.exists() for run in folds)


_SCORES = [start + score for score in (row.score for row in METRICS.values()) for start in ("", "val_")]
