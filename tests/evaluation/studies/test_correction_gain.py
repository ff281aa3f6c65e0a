"""Did correcting help? What a user loses otherwise: hours of drawing on a hope, or a gain that the test was bent to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from click.testing import CliRunner
from fakeruns import fake_run

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.errors import RunError
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evaluation.studies.correction_gain import measure_gain
from covseg_core.runs import Run

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
    new, old = found.comparison.evaluations
    assert {score.case for score in new.model.slices} == set(run.split.test)
    assert [(score.case, score.z) for score in new.model.slices] == [(s.case, s.z) for s in old.model.slices]
    assert new.model.pooled == evaluate_run(run).model.pooled
    assert new.model.pooled["dice"] != old.model.pooled["dice"], "else the sign of the difference is not tested"
    assert found.difference is not None
    assert np.sign(found.difference) == np.sign(new.model.over_scans["dice"].mean - old.model.over_scans["dice"].mean)
    assert set(found.work.cases) == set(train[:2])
    assert found.work.minutes == 6.5
    assert found.work.added + found.work.removed == 12
    assert found.per_minute == pytest.approx(found.difference / 6.5)
    assert (found.doubtful, found.warning) == ((), "")
    assert "chance" in found.sentence, "two patients tell nothing"


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
    assert found["per_minute"] == pytest.approx(found["dice"]["difference"] / 4)
