"""Train again with other settings: what the form does not fill in would change a result without anybody noticing."""

from __future__ import annotations

import dataclasses

import pages
import pytest
from streamlit.testing.v1 import AppTest

from covseg_core.config import PRESETS, AugmentConfig, SplitConfig
from covseg_core.data.library import importing
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.files import write_json
from covseg_core.runs import Run, jobs, time_estimate
from dashboard.app_pages.train import again


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_estimate, "measure", lambda network, check: None)


@pytest.fixture
def sample(no_training: None) -> str:
    return importing.import_sample("sample", scans=5, size=64).name


def start(app: AppTest) -> None:
    next(button for button in app.button if button.label == "Start training").click().run()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preset": "robust", "split": "slice", "epochs": 3, "size": 64, "filters": 4, "batch": 4, "seed": 7},
        {"preset": "quick", "context": 1, "ema": 0.9, "region": "lungs", "folds": 3},
        {"preset": "standard", "seeds": 2, "seed": 3},
        {"preset": "quick", "target": "lung", "ema": 0.0},
        {"preset": "quick", "learning_rate": 5e-4, "schedule": "plateau", "patience": 7, "augmentation": "strong"},
        {"preset": "paper", "augmentation": "light", "schedule": "cosine", "batch": 4, "learning_rate": 0.01},
    ],
)
def test_the_form_starts_what_the_run_was_started_with(sample: str, settings: dict, monkeypatch) -> None:
    train, made = jobs.train, jobs.train(sample, ["iou"], **settings)
    asked: list[tuple] = []
    monkeypatch.setattr(jobs, "train", lambda *args, **more: asked.append((args, more)) or [made[0]])
    app = pages.open_page("", again=made[0].id)
    assert "The form holds the settings of" in app.success[0].value
    assert "as in the preset" not in app.success[0].value
    start(app)
    [(args, more)] = asked
    second = train(*args, **more)
    assert len(second) == len(made)
    for one, other in zip(made, second, strict=True):
        names = {"id": "", "experiment": "", "created": ""}
        assert dataclasses.replace(one.config, **names) == dataclasses.replace(other.config, **names)


def test_the_link_fills_once_and_what_is_changed_then_stays(sample: str) -> None:
    [run] = jobs.train(sample, ["dice"], size=64, seed=7)
    app = pages.open_page("", again=run.id)
    assert "again" not in app.query_params
    fields = {field.label: field for field in app.number_input}
    assert (fields["Seed"].value, fields["Side of the slices (pixels)"].value) == (7, 64)
    fields["Seed"].set_value(8)
    pages.well(app.run())
    fields = {field.label: field for field in app.number_input}
    assert (fields["Seed"].value, fields["Side of the slices (pixels)"].value) == (8, 64)
    assert not app.success


def test_a_corrected_mask_is_said(sample: str) -> None:
    """What is trained then is not the same, whatever the settings."""
    [run] = jobs.train(sample, ["dice"])
    assert "has changed since" not in pages.open_page("", again=run.id).success[0].value
    dataset = load_dataset(sample)
    case = dataset.cases[0]
    save_revision(sample, case.id, 1 - stored_mask(dataset, case, "infection"))
    assert "sample has changed since: what is trained on is its newest" in (
        pages.open_page("", again=run.id).success[0].value
    )


def test_what_the_form_cannot_hold_is_said(sample: str) -> None:
    [run] = jobs.train(sample, ["dice"])
    config = run.config
    train = dataclasses.replace(config.train, balance=0.3, augment=AugmentConfig(flip=True))
    other = dataclasses.replace(config, train=train, split=SplitConfig(seed=9), dataset="gone")
    write_json(run.folder / "config.json", other)
    app = pages.open_page("", again=run.id)
    told = app.success[0].value
    assert "dataset gone is not here any more" in told
    assert "Split seed, train.balance, train.augment.shift" in told.replace("\\", "")


def test_a_run_that_is_gone_is_said_and_the_form_is_as_ever(sample: str) -> None:
    app = pages.open_page("", again="gone")
    assert "no such run" in app.error[0].value
    assert any(button.label == "Start training" for button in app.button)


def test_a_preset_that_is_gone_is_named(sample: str) -> None:
    run: Run = jobs.train(sample, ["dice"])[0]
    config = dataclasses.replace(run.config, preset="former", train=PRESETS["standard"].train)
    choice = again.choice_of(config)
    assert choice.preset == next(iter(PRESETS))
    assert "Preset" in again.not_held(config, choice)


def test_lungs_are_outlined_in_the_preview_of_a_case(sample: str) -> None:
    """Who cuts slices to the lungs has to see what they are taken for."""
    case = load_dataset(sample).cases[0]
    app = pages.open_page("", dataset=sample, case=case.id)
    [toggle] = [toggle for toggle in app.toggle if toggle.label == "Lung outline"]
    assert toggle.value
    before = images(app)
    toggle.set_value(False).run()
    after = images(app)
    assert before[0] == after[0], "the scan itself stays without lines"
    assert before[1] != after[1]


def images(app: AppTest) -> list[str]:
    return [image.url for element in app.get("image") for image in element.proto.imgs]
