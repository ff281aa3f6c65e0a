"""Fine-tuning from the form. What a user loses otherwise: new weights where the run's were asked for."""

from __future__ import annotations

import dataclasses

import pages
import pytest
from fakeruns import fake_run
from streamlit.testing.v1 import AppTest

from covseg_core.config import ModelConfig, PrepareConfig, SplitConfig
from covseg_core.data.library import importing
from covseg_core.files import write_json
from covseg_core.runs import Run, Standardisation, jobs, list_runs, time_estimate


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_estimate, "measure", lambda network, check: None)


@pytest.fixture
def parent(no_training: None) -> Run:
    dataset = importing.import_sample("sample", scans=5, size=64)
    network = {"model": ModelConfig(filters=4), "prepare": PrepareConfig(size=32, context=1)}
    run = fake_run(dataset, "parent", "dice", SplitConfig(seed=5), 90, **network)
    run.best_weights.write_bytes(b"weights")
    write_json(run.folder / "standardise.json", Standardisation(100.0, 50.0))
    return run


def start_from(app: AppTest, run: str | None) -> AppTest:
    [box] = [box for box in app.selectbox if box.label == "Start from"]
    return pages.well(box.set_value(run).run())


def press_start(app: AppTest) -> None:
    next(button for button in app.button if button.label == "Start training").click().run()


def made() -> list[Run]:
    return [run for run in list_runs() if run.id != "parent"]


def test_the_network_and_the_split_are_the_runs(parent: Run) -> None:
    app = start_from(pages.open_page(), "parent")
    fields = {field.label: field for field in app.number_input}
    for label, usual in {
        "Side of the slices (pixels)": "32",
        "Filters of the first block": "4",
        "Neighbouring slices on each side": "1",
    }.items():
        assert (fields[label].disabled, fields[label].placeholder) == (True, usual)
    assert fields["Learning rate"].placeholder == "0.0002"
    next(group for group in app.button_group if group.label == "Metric").set_value("Dice").run()
    press_start(app)
    [run] = made()
    assert (run.config.parent, run.config.model, run.config.prepare) == (
        "parent", parent.config.model, parent.config.prepare,
    )  # fmt: skip
    assert run.split == parent.split
    assert run.config.train.learning_rate == pytest.approx(2e-4)


def test_such_a_training_can_be_started_again(parent: Run) -> None:
    [run] = jobs.train("sample", ["dice"], start_from="parent", epochs=3)
    app = pages.open_page("", again=run.id)
    assert "as in the preset" not in app.success[0].value
    press_start(app)
    [other] = [one for one in made() if one.id != run.id]
    names = {"id": "", "experiment": "", "created": ""}
    assert dataclasses.replace(run.config, **names) == dataclasses.replace(other.config, **names)
    parent.best_weights.unlink()
    told = pages.open_page("", again=run.id).success[0].value
    assert "The run that it started from, parent, is not here any more: weights are new ones." in told


def test_new_weights_are_what_is_chosen_first(parent: Run) -> None:
    app = pages.open_page()
    press_start(app)
    assert len(made()) == 3
    assert all(not run.config.parent for run in made())


def test_only_runs_with_weights_are_offered(parent: Run) -> None:
    parent.best_weights.unlink()
    [box] = [box for box in pages.open_page().selectbox if box.label == "Start from"]
    assert box.options == ["New weights"]


def test_a_run_that_goes_meanwhile_is_left_out(parent: Run) -> None:
    app = start_from(pages.open_page(), "parent")
    parent.best_weights.unlink()
    pages.well(app.run())
    [box] = [box for box in app.selectbox if box.label == "Start from"]
    assert box.value == ""
