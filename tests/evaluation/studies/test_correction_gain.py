"""Did correcting help? What a user loses otherwise: hours of drawing on a hope, or a gain that the test was bent to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pages
import pytest
from click.testing import CliRunner
from fakeruns import fake_run, save_model

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.errors import RunError
from covseg_core.evaluation.evaluate import evaluate_run, evaluate_runs
from covseg_core.evaluation.studies.correction_gain import measure_gain, stored_gain
from covseg_core.runs import Run
from dashboard.app_pages.compare import gain

SPLIT = SplitConfig(fractions=(0.4, 0.2, 0.4), seed=3)


@pytest.fixture
def before(small_phantoms: Callable[..., Dataset]) -> Run:
    return fake_run(small_phantoms(6), "before", "dice", SPLIT, 60)


def corrected(case: str, minutes: float) -> Dataset:
    """One more voxel row in the mask of a case."""
    dataset = load_dataset("phantoms")
    mask = stored_mask(dataset, dataset.case(case), "infection").copy()
    mask[1, 2, 3:9] ^= 1
    return save_revision("phantoms", case, mask, author="Ada", minutes=minutes).dataset


def after(before: Run, dataset: Dataset, limit: float = 90.0) -> Run:
    """A run that began with its weights, on the dataset as it is now."""
    kin = {"parent": before.id, "parent_data": before.config.data, "revision": dataset.revision}
    return fake_run(dataset, "after", "dice", SPLIT, limit, **kin)


def test_both_are_scored_on_the_same_patients_and_the_work_is_counted(before: Run) -> None:
    train = sorted(before.split.train)
    corrected(train[0], 4.0)
    dataset = corrected(train[1], 2.5)
    run = after(before, dataset)
    found = measure_gain(run)
    assert (found.before, found.after, found.data) == ("before", "after", "phantoms@3")
    new, old = evaluate_runs([run, before], "phantoms@3").evaluations
    assert {score.case for score in new.model.slices} == set(run.split.test)
    slices = [[(score.case, score.z) for score in each.model.slices] for each in (new, old)]
    assert slices[0] == slices[1]
    assert new.model.pooled == evaluate_run(run).model.pooled
    assert found.dice == (old.model.over_scans["dice"].mean, new.model.over_scans["dice"].mean)
    assert found.dice[0] != found.dice[1], "else the sign of the difference is not tested"
    assert found.difference is not None
    assert np.sign(found.difference) == np.sign(found.dice[1] - found.dice[0])
    assert set(found.work.cases) == set(train[:2])
    assert found.work.minutes == 6.5
    assert found.work.added + found.work.removed == 12
    assert found.per_minute == pytest.approx(found.difference / 6.5)
    assert (found.doubtful, found.warning) == ((), "")
    assert "chance" in found.sentence, "two patients tell nothing"
    assert stored_gain(run) == found
    save_model(before.onnx, 130)
    assert stored_gain(run) is None, "it was of another model"


def test_a_test_mask_that_was_changed_since_is_named(before: Run) -> None:
    """Somebody may have seen what the run says there, and drawn that."""
    test, train = sorted(before.split.test)[0], sorted(before.split.train)[0]
    corrected(train, 1.0)
    found = measure_gain(after(before, corrected(test, 50.0)))
    assert found.doubtful == (test,)
    assert test in found.warning
    assert "before was trained" in found.warning
    assert found.work.minutes == 1.0, "nothing is learned from the test"


def test_without_minutes_there_is_no_gain_a_minute(before: Run) -> None:
    found = measure_gain(after(before, corrected(sorted(before.split.train)[0], 0.0)))
    assert found.per_minute is None


def test_the_same_model_is_no_gain(before: Run) -> None:
    found = measure_gain(after(before, corrected(sorted(before.split.train)[0], 3.0), limit=60))
    assert found.pair.same
    assert found.sentence == "No: both runs mark the same on every test slice."


def test_what_was_corrected_later_is_no_work_of_this_run(before: Run) -> None:
    train = sorted(before.split.train)
    run = after(before, corrected(train[0], 4.0))
    corrected(train[1], 30.0)
    found = measure_gain(run)
    assert found.data == "phantoms@2"
    assert found.work.minutes == 4.0


def test_other_runs_are_refused_in_a_line(before: Run) -> None:
    with pytest.raises(RunError, match="was not trained from another run"):
        measure_gain(before)
    dataset = corrected(sorted(before.split.train)[0], 1.0)
    run = after(before, dataset)
    other = dataclasses.replace(run.config, id="other", parent="gone")
    made = fake_run(dataset, "other", "dice", SPLIT, 90, parent=other.parent)
    with pytest.raises(RunError):
        measure_gain(made)


def test_the_command_says_so(before: Run) -> None:
    test, train = sorted(before.split.test)[0], sorted(before.split.train)[0]
    corrected(test, 1.0)
    after(before, corrected(train, 4.0))
    result = CliRunner().invoke(cli, ["gain", "after"], catch_exceptions=False)
    assert "1 case corrected" in result.stdout
    assert "4 minutes" in result.stdout
    assert "Dice for each minute of correction" in result.stdout
    assert "warning: The masks of 1 test case" in result.output
    found = json.loads(CliRunner().invoke(cli, ["gain", "after", "--json"], catch_exceptions=False).stdout)
    assert found["doubtful"] == [test]
    assert found["per_minute"] == pytest.approx(found["pair"]["difference"] / 4)


def test_the_page_scores_both_and_says_the_answer(before: Run) -> None:
    run = after(before, corrected(sorted(before.split.train)[0], 4.0))
    evaluate_run(run)
    app = pages.open_page("compare", {gain.OPEN: True}, tab="Statistics", runs="after")
    [button] = [button for button in app.button if button.label == "Score before and after"]
    button.click().run()
    assert pages.wait(app).error == ""
    pages.well(app.run())
    found = stored_gain(run)
    assert found is not None
    assert any(found.sentence in markdown.value for markdown in app.markdown)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Dice after"] == f"{found.dice[1]:.3f}"
    assert shown["Minutes of work"] == "4"
