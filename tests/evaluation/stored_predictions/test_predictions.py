"""The one reader of test predictions: without it, each fault of the file has another text on each panel, or none."""

from __future__ import annotations

import numpy as np
import pytest
from scored import evaluation

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import RunError
from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.stored_predictions.predictions import joined, read_predictions
from covseg_core.files import write_json
from covseg_core.runs import Run, create_run

ONE = [("p", "scan", Counts(tp=1))]


@pytest.fixture
def run() -> Run:
    config = RunConfig("one", "first", "phantoms", "0" * 64, "dice", "quick", "2026-01-02T03:04:05.000006+00:00")
    return create_run(config, Split(SplitConfig(), {}, {}, {}))


def test_a_run_that_was_not_evaluated_says_what_to_do(run: Run) -> None:
    with pytest.raises(RunError, match="has not been scored yet; expected `covseg evaluate one`"):
        read_predictions(run)
    write_json(run.evaluation, evaluation("dice", ONE))
    with pytest.raises(RunError, match=r"one: has no test_predictions\.npy; expected `covseg evaluate one` writes it"):
        read_predictions(run)


def test_files_that_are_damaged_or_do_not_fit_are_one_line(run: Run) -> None:
    run.evaluation.write_text("{}")
    with pytest.raises(RunError, match="has not been scored yet"):
        read_predictions(run)
    write_json(run.evaluation, evaluation("dice", ONE))
    run.test_predictions.write_bytes(b"no array")
    with pytest.raises(RunError, match=r"test_predictions\.npy: cannot be read"):
        read_predictions(run)
    np.save(run.test_predictions, np.zeros((2, 4, 4), np.float16))
    with pytest.raises(RunError, match=r"2 slices, but 1 scores in evaluation\.json"):
        read_predictions(run)
    run.onnx.write_bytes(b"other weights")
    with pytest.raises(RunError, match="scores of an earlier model"):
        read_predictions(run)


def test_rows_are_found_by_case_and_slice_and_read_anew_after_an_evaluation(run: Run) -> None:
    write_json(run.evaluation, evaluation("dice", [*ONE, ("p", "scan", Counts(tp=1))]))
    np.save(run.test_predictions, np.stack([np.full((4, 4), value, np.float16) for value in (0.25, 0.5)]))
    first = read_predictions(run)
    [(case, zs)] = first.rows.items()
    assert [float(first.values[row].max()) for row in zs.values()] == [0.25, 0.5], case
    assert read_predictions(run) is first
    np.save(run.test_predictions, np.ones((2, 4, 4), np.float16))
    assert float(read_predictions(run).values[0].max()) == 1
    both = joined([first])
    np.testing.assert_array_equal(both.values[0:2], first.values)
