"""Who trains next: the oldest, unless somebody has said otherwise, and never nobody."""

from __future__ import annotations

import dataclasses

import pytest

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import RunError
from covseg_core.runs import Run, create_run, jobs, turns
from covseg_core.runs.liveness import this_process


def _queue(*ids: str, same_moment: bool = False) -> list[Run]:
    runs = []
    for number, id in enumerate(ids):
        config = RunConfig(id, "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
        run = create_run(config, Split(SplitConfig(), {}, {}, {}))
        queued = 1.8e9 + (0 if same_moment else number)
        run.write_status(dataclasses.replace(run.status, queued=queued, process=this_process()))
        runs.append(run)
    return runs


def _order() -> list[str]:
    return [one.run.id for one in turns.waiting()]


def _ahead(runs: list[Run]) -> list[int]:
    return [turns.ahead(run, run.status.queued) for run in runs]


def test_the_oldest_goes_first() -> None:
    runs = _queue("c", "b", "a")
    assert _order() == ["c", "b", "a"]
    assert _ahead(runs) == [0, 1, 2]


@pytest.mark.parametrize("same_moment", [False, True])
def test_a_run_that_is_moved_up_goes_before_the_one_that_was_before_it(same_moment: bool) -> None:
    runs = _queue("a", "b", "c", same_moment=same_moment)
    turns.move_up(runs[2])
    assert _order() == ["a", "c", "b"]
    turns.move_up(runs[2])
    assert _order() == ["c", "a", "b"]
    assert _ahead(runs) == [1, 2, 0], "each worker comes to the same"
    with pytest.raises(RunError, match="c: is the first"):
        turns.move_up(runs[2])
    turns.move_up(runs[1])
    assert _order() == ["c", "b", "a"]


def test_a_paused_run_lets_the_others_go_first_and_keeps_its_place() -> None:
    runs = _queue("a", "b", "c")
    turns.pause(runs[0])
    assert _order() == ["a", "b", "c"]
    assert _ahead(runs)[1:] == [0, 1]
    turns.move_up(runs[1])
    turns.pause(runs[0], False)
    assert _order() == ["b", "a", "c"]
    assert _ahead(runs) == [1, 0, 2]


def test_a_run_that_does_not_wait_has_no_turn() -> None:
    runs = _queue("a", "b")
    runs[1].write_status(dataclasses.replace(runs[1].status, state="finished"))
    assert _order() == ["a"]
    for act in (turns.move_up, turns.pause):
        with pytest.raises(RunError, match="b: is finished; expected a run that waits"):
            act(runs[1])
    assert not (runs[1].folder / turns.FILE).exists()


def test_a_file_that_cannot_be_read_keeps_nobody_from_training() -> None:
    runs = _queue("a", "b")
    (runs[1].folder / turns.FILE).write_text("{")
    assert _order() == ["a", "b"]
    assert _ahead(runs) == [0, 1]


def test_a_resumed_run_waits_at_the_end_again(phantoms: str, no_training: None) -> None:
    from fakeruns import ended

    first, second = jobs.train(phantoms, ["iou", "dice"])
    turns.move_up(second)
    turns.pause(second)
    ended(second, "stopped")
    jobs.resume(second)
    assert _order() == [first.id, second.id]
    assert not turns.read_turn(second).paused
