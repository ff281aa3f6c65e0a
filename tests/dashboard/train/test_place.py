"""Where a training runs is chosen in the form, by who has a cluster; nobody else is asked."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest
from streamlit.testing.v1 import AppTest

from covseg_core import runs
from covseg_core.data.library.importing import import_sample
from covseg_core.runs import jobs, time_estimate


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch, checkpoints_folder: Path) -> None:
    checkpoints_folder.mkdir(exist_ok=True)
    import_sample("sample", scans=6, size=64)
    monkeypatch.setattr(time_estimate, "measure", lambda *_: None)


def _boxes(app: AppTest) -> list[object]:
    return [box for box in app.selectbox if box.label == "Place"]


def test_without_a_cluster_there_is_nothing_to_choose() -> None:
    assert not _boxes(pages.open_page())


def test_the_chosen_place_is_passed_on(monkeypatch: pytest.MonkeyPatch, checkpoints_folder: Path) -> None:
    (checkpoints_folder / "places.toml").write_text("[gpu]\npartition = 'gpu'\n")
    started: list[object] = []

    def train(*_: object, **more: object) -> list[runs.Run]:
        started.append(more["place"])
        raise OSError("enough is known")

    monkeypatch.setattr(jobs, "train", train)
    app = pages.open_page()
    [box] = _boxes(app)
    assert box.options == ["This computer", "gpu"]  # type: ignore[attr-defined]
    box.set_value("gpu")  # type: ignore[attr-defined]
    pages.well(app.run())
    next(button for button in app.button if button.label == "Start training").click()
    app.run()
    assert started == ["gpu"]


def test_a_broken_file_of_places_is_said_and_this_computer_still_trains(checkpoints_folder: Path) -> None:
    (checkpoints_folder / "places.toml").write_text("[gpu\n")
    app = pages.open_page()
    assert not _boxes(app)
    assert any("places.toml" in error.value for error in app.error)
    assert any(button.label == "Start training" for button in app.button)


def test_a_cluster_that_refuses_says_why(checkpoints_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoints_folder / "places.toml").write_text("[gpu]\n")
    monkeypatch.setenv("PATH", str(checkpoints_folder))
    app = pages.open_page()
    [box] = _boxes(app)
    box.set_value("gpu")  # type: ignore[attr-defined]
    pages.well(app.run())
    next(button for button in app.button if button.label == "Start training").click()
    app.run()
    assert any("no command sbatch on this machine" in error.value for error in app.error)
    assert runs.list_runs() == []
