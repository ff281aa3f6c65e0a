"""The first page, in its states, without a browser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from covseg_core import runs
from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data import datasets, importing
from covseg_core.data.split import Split
from covseg_core.errors import DatasetError

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"


def open_app() -> AppTest:
    app = AppTest.from_file(APP, default_timeout=120).run()
    assert not app.exception, app.exception
    return app


def click_sample(app: AppTest) -> AppTest:
    [button] = [button for button in app.button if button.label == "Use sample data"]
    button.click().run()
    assert not app.exception, app.exception
    return app


def small_sample(name: str) -> datasets.Dataset:
    return importing.import_sample(name, scans=3, size=64)


def make_run(id: str, state: runs.State, **status: object) -> runs.Run:
    config = RunConfig(
        id=id,
        experiment="first",
        dataset="sample",
        fingerprint="0" * 64,
        metric="dice",
        preset="quick",
        created="2026-01-02T03:04:05.000006+00:00",
    )
    run = runs.create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
    run.write_status(dataclasses.replace(run.status, **{"state": state, "epochs": 10, **status}))
    return run


def test_a_newcomer_is_told_what_to_do() -> None:
    """Without data the page is the first thing somebody sees of covseg: it must offer a way on, not empty tables."""
    app = open_app()
    assert app.title[0].value == "Data and training"
    assert app.button[0].label == "Use sample data"
    assert not app.dataframe
    assert "covseg data add my-scans FOLDER" in [code.value for code in app.code]
    assert any("No run yet" in caption.value for caption in app.caption)


def test_one_click_gives_a_dataset_that_can_be_trained_on() -> None:
    app = click_sample(open_app())
    [row] = app.dataframe[0].value.to_dict("records")
    made = datasets.load_dataset("sample")
    assert row["Dataset"] == "sample"
    assert row["Cases"] == len(made.cases) == 6
    assert row["Patients"] == len(made.patients)
    assert row["Slices"] == sum(case.slices for case in made.cases)
    assert 0 < row["Positive slices"] < row["Slices"], "a U-Net has nothing to learn from"
    warnings = [(case.id, warning) for case in made.cases for warning in case.warnings]
    assert row["Warnings"] == len(warnings)
    assert list(app.dataframe[1].value[["Case", "Warning"]].itertuples(index=False, name=None)) == warnings
    assert "sample is ready" in app.success[0].value
    assert "covseg train sample --metric all --preset quick" in [code.value for code in app.code]
    assert not app.button, "the button would only lead to an error now"
    assert not app.run().success, "news is told once"


def test_the_click_does_what_the_command_line_does() -> None:
    """Somebody who goes from the one to the other must get the same scans."""
    click_sample(open_app())
    by_click = datasets.load_dataset("sample").fingerprint
    datasets.delete_dataset("sample")
    assert importing.import_sample("sample").fingerprint == by_click


def test_what_goes_wrong_is_one_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(name: str) -> None:
        raise DatasetError(name, "no space left on device", "about 20 MB")

    monkeypatch.setattr(importing, "import_sample", full_disk)
    app = click_sample(open_app())
    assert [error.value for error in app.error] == ["sample: no space left on device; expected about 20 MB"]
    assert app.button[0].label == "Use sample data", "the user can try again"


def test_a_broken_dataset_does_not_hide_the_others() -> None:
    small_sample("good")
    broken = datasets.datasets_root() / "broken"
    broken.mkdir()
    (broken / "dataset.json").write_text('{"name": "brok')
    app = open_app()
    assert list(app.dataframe[0].value["Dataset"]) == ["good"]
    assert len(app.warning) == 1
    assert "broken" in app.warning[0].value


def test_runs_are_listed_with_their_states() -> None:
    make_run("one", "finished", epoch=10)
    make_run("two", "failed", epoch=3, reason="out of memory")
    # a process number that was used again: its start time does not fit
    make_run("three", "running", epoch=5, pid=psutil.Process().pid, pid_started=1.0)
    table = open_app().dataframe[0].value.set_index("Run")
    assert dict(table["State"]) == {"one": "Finished", "two": "Failed", "three": "Lost"}
    assert set(table["Metric"]) == {"Dice"}
    assert dict(table["Epochs"]) == {"one": 1.0, "two": 0.3, "three": 0.5}
    assert table.loc["two", "Reason"] == "out of memory"


def test_a_finished_experiment_leads_to_the_comparison() -> None:
    make_run("one", "finished", epoch=10)
    make_run("two", "finished", epoch=10)
    assert any(code.value.split() == ["covseg", "evaluate", "one", "two"] for code in open_app().code)
    make_run("three", "failed")
    assert not any("evaluate" in code.value for code in open_app().code), "a failed run cannot be evaluated"


def test_a_broken_run_does_not_hide_the_others() -> None:
    make_run("good", "finished")
    (make_run("bad", "finished").folder / "config.json").write_text("{}")
    app = open_app()
    assert list(app.dataframe[0].value["Run"]) == ["good"]
    assert len(app.warning) == 1
    assert "bad" in app.warning[0].value
