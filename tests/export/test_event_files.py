"""TensorBoard reads what was written: by TensorFlow's own reader, which checks the sums of every record."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakeruns import epoch_row

from covseg_core.cli import cli
from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.export.event_files import write_event_files
from covseg_core.runs import Run, create_run


@pytest.fixture
def run() -> Run:
    config = RunConfig("one", "one", "data", "f" * 64, "dice", "quick", "2026-01-02T03:04:05+00:00")
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    run.write_status(dataclasses.replace(run.status, state="finished"))
    return run


@pytest.mark.training
def test_every_curve_comes_back_epoch_by_epoch(run: Run, tmp_path: Path) -> None:
    from tensorflow.compat.v1.train import summary_iterator

    rows = [epoch_row(epoch) | {"learning_rate": 0.1 / epoch} for epoch in range(1, 201)]
    rows[3]["val_loss"] = float("nan")
    run.write_history(rows)
    training, validation = write_event_files(run, tmp_path)
    assert training.parent == tmp_path / "one" / "train"
    found = {}
    for path in (training, validation):
        events = list(summary_iterator(str(path)))
        assert events[0].file_version == "brain.Event:2"
        assert events[1].wall_time == pytest.approx(1767323045 + 60)
        found[path] = {
            (event.step, value.tag): value.simple_value for event in events[1:] for value in event.summary.value
        }
    for row in rows:
        step = row["epoch"]
        for name in ("loss", "dice_foreground", "pixel_accuracy"):
            assert found[training][step, name] == pytest.approx(row[name])
            if step != 4 or name != "loss":
                assert found[validation][step, name] == pytest.approx(row[f"val_{name}"])
        assert found[training][step, "learning_rate"] == pytest.approx(row["learning_rate"])
    assert (4, "loss") not in found[validation], "what is not a number is left out"
    assert {name for _, name in found[training]} == {
        "loss", "dice_foreground", "pixel_accuracy", "iou_foreground", "learning_rate", "seconds",
    }  # fmt: skip


def test_a_run_without_an_epoch_gives_no_file(run: Run, tmp_path: Path) -> None:
    assert write_event_files(run, tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_the_command_writes_an_experiment_and_asks_where_to(run: Run, tmp_path: Path) -> None:
    run.write_history([epoch_row(1)])
    done = CliRunner().invoke(cli, ["runs", "export", "one", "--tensorboard", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert len(list((tmp_path / "one").rglob("events.out.tfevents.*"))) == 2
    assert CliRunner().invoke(cli, ["runs", "export", "one"]).exit_code == 2
