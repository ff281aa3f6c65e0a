"""Several seeds on the pages. What a user loses otherwise: fifteen columns, or one that hides how much is luck."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable

import pages
import pytest
from fakeruns import fake_run, fake_seeds
from pages import open_page

from covseg_core.config import Metric, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.evaluation import comparable
from covseg_core.evaluation.comparison import evaluate, models_of
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.runs import Run, jobs, open_run, time_estimate
from dashboard.app_pages.compare import export_files, score_table
from dashboard.app_pages.monitor import run_progress
from dashboard.app_pages.predict import offered_models
from dashboard.app_pages.runs import rows, run_table
from dashboard.services import model_catalog

LIMITS: dict[Metric, float] = {"iou": 90, "dice": 120}


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def seeds(dataset: Dataset) -> list[Run]:
    return fake_seeds(dataset, LIMITS, 3)


def test_the_seeds_of_a_metric_are_one_entry_with_mean_and_spread(seeds: list[Run]) -> None:
    comparison = evaluate(seeds)
    app = open_page("compare")
    assert app.multiselect[0].value == ["experiment-iou", "experiment-dice"]
    assert [label.split(" · ")[:4] for label in app.multiselect[0].options] == [
        ["IoU", "phantoms", "quick", "3 seeds"],
        ["Dice", "phantoms", "quick", "3 seeds"],
    ]
    assert any("gray-badge[3 seeds]" in text.value for text in app.markdown)
    assert any("A model of 3 seeds was trained 3 times" in info.value for info in app.info)
    own, scores = app.dataframe[0].value, app.dataframe[1].value
    assert list(own["Seeds"]) == [3, 3] and "SD over seeds" in own
    cell = scores.set_index("Measure").loc["Dice (foreground)", "B · Dice"]
    assert (
        cell == score_table.score_table(comparison, "pooled").set_index("Measure").loc["Dice (foreground)", "B · Dice"]
    )
    assert cell.startswith(f"{comparison.evaluations[1].model.pooled['dice']:.4f} ± ")
    assert any("over 3 seeds each" in text.value for text in app.markdown)
    assert any("after ± stands their standard deviation over seeds" in text.value for text in app.caption)
    assert not app.error


def test_means_over_scans_have_the_spread_of_seeds_in_brackets(seeds: list[Run]) -> None:
    table = score_table.score_table(evaluate(seeds), "scans").set_index("Measure")
    assert "(± " in table.loc["Dice (foreground)", "A · IoU"]
    assert "(± " not in table.loc["Dice (foreground)", "Background"]
    assert "in brackets" in " ".join(score_table.legend(evaluate(seeds), "scans"))
    assert "seeds" not in " ".join(score_table.legend(evaluate(seeds[:2]), "scans"))


def test_seeds_that_were_not_scored_are_by_one_click(seeds: list[Run]) -> None:
    app = open_page("compare")
    assert "has not been scored yet" in app.info[0].value
    [button] = [button for button in app.button if button.label == "Score these models on the same slices"]
    button.click().run()
    pages.wait(app)
    pages.well(app.run())
    assert any("gray-badge[3 seeds]" in text.value for text in app.markdown)
    assert all(run.evaluation.exists() for run in seeds)


def test_slices_and_panels_are_of_the_seed_that_is_chosen(seeds: list[Run]) -> None:
    """A picture of one seed under the mean of three has to say which."""
    evaluate(seeds)
    opened = {"compare-trust": True, "compare-gallery": True, "compare-whatif": True}
    assert not open_page("compare", opened, tab="Failures").error
    app = open_page("compare", tab="Slices")
    assert not app.error
    asked: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "dashboard.app_pages.compare.slices.show",
            lambda comparison, chosen: asked.append([one.run for one in comparison.evaluations]),
        )
        app.session_state["compare-seed"] = 1
        pages.well(app.run())
    assert asked == [["experiment-iou-seed2of3", "experiment-dice-seed2of3"]]
    export = open_page("compare", tab="Export")
    assert any("Predictions and evidence are of the seed that is shown." in text.value for text in export.caption)


def test_files_of_one_seed_can_be_taken_away(seeds: list[Run]) -> None:
    evaluate(seeds)
    shown = [model.seeds[2] for model in models_of(seeds)]
    comparison, _ = comparable.compared(shown)
    assert comparison is not None
    with export_files.predictions_zip(comparison, shown) as file, zipfile.ZipFile(file) as archive:
        assert "experiment-dice-seed3of3.npy" in archive.namelist()
    with export_files.evidence_zip(comparison, shown) as file:
        assert zipfile.is_zipfile(io.BytesIO(file.read()))
    with zipfile.ZipFile(io.BytesIO(export_files.tables_zip(evaluate(seeds)))) as archive:
        assert "seeds.csv" in archive.namelist()


def test_seeds_beside_a_run_and_seeds_that_are_missing(seeds: list[Run], dataset: Dataset) -> None:
    single = fake_run(dataset, "single-dice", "dice", SplitConfig(), 90, experiment="single")
    seeds[2].write_status(dataclasses.replace(seeds[2].status, state="failed"))
    evaluate(seeds)
    evaluate_run(single)
    app = open_page("compare", {"compare-seed": 1}, runs="experiment-iou,experiment-dice,single-dice")
    assert not app.error
    assert "2 of 3 seeds" in " ".join(app.multiselect[0].options)
    assert any("Only 2 of 3 seeds count (1, 3)" in info.value for info in app.info)
    assert any("gray-badge[2 and 1 seeds]" in text.value for text in app.markdown)


def test_folds_of_seeds_are_one_entry(dataset: Dataset) -> None:
    runs = fake_seeds(dataset, {"dice": 120}, 2, folds=3)
    evaluate(runs)
    app = open_page("compare")
    assert "3 folds · 2 seeds" in app.multiselect[0].options[0]
    assert not app.error and app.dataframe
    chosen = offered_models.preselected(offered_models.offered())
    assert chosen == [run.id for run in runs[:3]], "six models would take twice as long and be tied"


def test_a_run_says_its_seed_wherever_it_is_listed(seeds: list[Run]) -> None:
    known, problems = model_catalog.listed_runs()
    assert not problems
    assert list(run_progress.names(known, None).values()) == [
        f"{metric} · seed {number}" for number in (1, 2, 3) for metric in ("IoU", "Dice")
    ]
    assert "seed 1 of 3" in known[0].label
    table = run_table.run_table(rows.run_rows()[0], set())
    assert "IoU, seed 2 of 3" in set(table["Metric"])
    app = open_page("monitor")
    assert not app.error and not app.exception


def test_all_seeds_of_a_metric_or_one_of_them_can_predict(seeds: list[Run]) -> None:
    chosen = offered_models.preselected(offered_models.offered())
    assert [open_run(id).config.train.seed_number for id in chosen] == [1, 2, 3]
    assert {open_run(id).config.metric for id in chosen} == {"dice"}
    app = open_page("predict")
    assert not app.exception
    assert app.multiselect(key="models-infection").value == chosen
    pages.well(app.multiselect(key="models-infection").set_value(chosen[1:2]).run())


def test_the_form_asks_for_seeds_and_counts_their_time(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = time_estimate.Speed(0.01, "measured", "CPU")
    monkeypatch.setattr(time_estimate, "find_speed", lambda network: speed)
    app = open_page("train")
    app.number_input(key="train-seeds").set_value(4).run()
    assert any("for 12 trainings of 16 epochs" in text.value for text in app.markdown)
    pages.well(app.number_input(key="train-folds").set_value(3).run())
    assert any("for 36 trainings of 16 epochs" in text.value for text in app.markdown)
    asked: list[object] = []
    monkeypatch.setattr(jobs, "train", lambda *args, **settings: asked.append(settings["seeds"]) or [])
    next(button for button in app.button if button.label == "Start training").click().run()
    assert asked == [4]
