"""What a user types: train, runs, export, evaluate, and how mistakes are answered."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakeruns import Idle, ended, fake_run

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.files import write_json
from covseg_core.runs import Run, Standardisation, jobs, list_runs

TINY = ["--size", "32", "--filters", "2", "--batch", "4", "--epochs", "2"]


def _covseg(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "covseg_core", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"COLUMNS": "100"},
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


class Quick(Idle):
    """A worker that has done its work at once."""

    def __init__(self, command: list[str], **settings: object) -> None:
        run = Run(Path(command[3]))
        run.write_status(dataclasses.replace(run.status, state="finished", epoch=2))


def test_train_waits_and_says_what_became_of_the_run(phantoms, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Quick)
    arguments = ["train", phantoms, "--metric", "dice", *TINY, "--wait", "--json"]
    trained = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).output)
    [row] = trained
    assert (row["state"], row["epoch"], row["metric"]) == ("finished", 2, "dice")
    assert json.loads(CliRunner().invoke(cli, ["runs", "list", "--json"]).output) == trained


@pytest.mark.training
def test_list_show_export_evaluate_and_delete(trained):
    run = trained[2]
    assert run.id in _covseg("runs", "list").stdout
    shown = json.loads(_covseg("runs", "show", run.id, "--json").stdout)
    assert [epoch["epoch"] for epoch in shown["history"]] == [1, 2]
    assert shown["config"]["prepare"]["size"] == 32
    assert "epoch 2 of 2" in _covseg("runs", "show", run.id).stdout

    run.onnx.unlink()
    assert "covseg export" in _covseg("evaluate", run.id, code=2).stderr
    assert "differs from Keras" in _covseg("export", run.id).stdout
    text = _covseg("evaluate", run.id).stdout
    assert "background" in text, "a model is never shown without the trivial baselines"
    assert "split by patient" in text
    scores = json.loads(_covseg("evaluate", run.id, "--json").stdout)
    assert 0 <= scores["evaluations"][0]["model"]["pooled"]["dice"] <= 1

    assert "is finished" in _covseg("runs", "resume", run.id, code=2).stderr
    assert "is finished" in _covseg("runs", "stop", run.id, code=2).stderr
    for each in trained:
        assert "deleted" in _covseg("runs", "delete", each.id, "--yes").stdout
    assert "No runs yet" in _covseg("runs", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nothing", "--metric", "dice"], "no such dataset"),
        (["train", "../x", "--metric", "dice"], "expected"),
        (["runs", "show", "nothing"], "covseg runs list"),
        (["runs", "stop", "../../etc"], "expected"),
        (["evaluate", "nothing"], "no such run"),
        (["export", "nothing"], "no such run"),
        (["train", "x", "--metric", "f1"], "is not one of"),
        (["trane"], "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, says):
    done = _covseg(*arguments, code=2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if not done.stderr.startswith("Usage"):
        assert len(done.stderr.splitlines()) == 1


def test_a_wrong_setting_names_what_was_expected(phantoms):
    done = _covseg("train", phantoms, "--metric", "dice", "--size", "100", code=2)
    assert done.stderr == "covseg: size: 100; expected a multiple of 16 from 16 to 1024\n"


def test_help_names_every_command_without_loading_a_framework():
    code = (
        "import sys; from covseg_core.cli import cli; from click.testing import CliRunner;"
        "print(CliRunner().invoke(cli, ['--help']).output); print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *text, frameworks = done.stdout.strip().splitlines()
    assert frameworks == "[]"
    for command in ("data", "train", "runs", "export", "evaluate", "predict"):
        assert any(line.strip().startswith(command) for line in text)


def test_training_says_who_stands_on_which_side(phantoms, no_training):
    """A split by slice is leaky, and the user must read it before believing a score."""
    honest = CliRunner().invoke(cli, ["train", phantoms, "--metric", "dice", *TINY], catch_exceptions=False)
    assert honest.exit_code == 0
    assert "Split by patient, seed 0" in honest.stdout
    assert "LEAKY" not in honest.stdout


@pytest.mark.training
def test_a_leaky_split_is_said_before_the_training_and_its_progress_is_shown(phantoms):
    leaky = _covseg("train", phantoms, "--metric", "dice", *TINY, "--split", "slice", "--wait")
    assert "LEAKY: 6 patients on more than one side" in leaky.stdout
    assert "epoch 2 of 2" in leaky.stdout
    [row] = json.loads(_covseg("runs", "list", "--json").stdout)
    assert (row["state"], row["epoch"], row["metric"]) == ("finished", 2, "dice")


def test_runs_are_listed_oldest_first_and_those_of_one_experiment_by_name(phantoms, no_training):
    """Whatever they are called: a run may have a name of the user's."""
    runs = [*jobs.train(phantoms), *jobs.train(phantoms, ["dice"])]
    write_json(runs[3].folder / "config.json", dataclasses.replace(runs[3].config, created="2020-01-01T00:00:00+00:00"))
    listed = json.loads(CliRunner().invoke(cli, ["runs", "list", "--json"], catch_exceptions=False).output)
    accuracy, iou, dice, oldest = (run.id for run in runs)
    assert [row["id"] for row in listed] == [oldest, accuracy, dice, iou]


def _run_cli(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["runs", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_runs_are_named_and_tagged_and_found_by_their_tags(phantoms, no_training):
    """What the page has said of a run a script must be able to ask for."""
    first, second = jobs.train(phantoms, ["iou", "dice"]), jobs.train(phantoms, ["dice"])
    _run_cli("edit", second[0].id, "--name", "Larger slices", "--note", "for the talk", "--tag", "best", "--tag", "b")
    experiment = first[0].config.experiment
    assert _run_cli("edit", experiment, "--tag", "best", "--name", "First").count("First · best") == 2
    tagged = json.loads(_run_cli("list", "--tag", "best", "--json"))
    assert {row["id"] for row in tagged} == {run.id for run in (*first, *second)}
    [row] = json.loads(_run_cli("list", "--tag", "best", "--tag", "b", "--json"))
    assert (row["id"], row["name"], row["note"], row["tags"]) == (
        second[0].id,
        "Larger slices",
        "for the talk",
        ["best", "b"],
    )
    assert row["experiment"] == second[0].config.experiment
    assert "Larger slices · best, b" in _run_cli("list")
    assert _run_cli("list", "--tag", "nothing") == "No run has this tag.\n"
    [edited] = [json.loads(_run_cli("edit", second[0].id, "--untag", "best", "--name", "", "--json"))]
    assert (edited["name"], edited["tags"]) == ("", ["b"])
    assert json.loads(_run_cli("show", second[0].id, "--json"))["labels"]["tags"] == ["b"]


def test_an_edit_without_a_change_is_a_mistake(phantoms, no_training):
    [run] = jobs.train(phantoms, ["dice"])
    done = CliRunner().invoke(cli, ["runs", "edit", run.id])
    assert done.exit_code == 2
    assert "give --name, --note, --tag or --untag" in done.output


def test_an_experiment_is_deleted_as_one(phantoms, no_training):
    runs = jobs.train(phantoms, ["iou", "dice"])
    ended(runs[0], "finished")
    experiment = runs[0].config.experiment
    refused = CliRunner().invoke(cli, ["runs", "delete", experiment, "--yes"])
    assert "stop it first" in str(refused.exception)
    assert list_runs() == sorted(runs, key=lambda run: run.id)
    ended(runs[1], "stopped")
    _run_cli("delete", experiment, "--yes")
    assert list_runs() == []


def test_the_queue_is_shown_moved_and_paused(phantoms, no_training):
    iou, dice = jobs.train(phantoms, ["iou", "dice"])
    assert [row["id"] for row in json.loads(_run_cli("queue", "--json"))] == [iou.id, dice.id]
    assert _run_cli("queue", dice.id, "--up", "--pause").splitlines() == [f"1  {dice.id}  paused", f"2  {iou.id}"]
    assert "paused" not in _run_cli("queue", dice.id, "--unpause")
    refused = CliRunner().invoke(cli, ["runs", "queue", dice.id, "--up"])
    assert "is the first in the queue" in str(refused.exception)
    for wrong in (["--up"], [dice.id, "--pause", "--unpause"]):
        assert CliRunner().invoke(cli, ["runs", "queue", *wrong]).exit_code == 2
    for run in (iou, dice):
        ended(run, "stopped")
    assert _run_cli("queue") == "No run waits.\n"


def test_a_training_starts_from_a_run_on_a_revision(phantoms, no_training):
    dataset = load_dataset(phantoms)
    parent = fake_run(dataset, "parent", "iou", SplitConfig(fractions=(0.4, 0.2, 0.4)), 90)
    parent.best_weights.write_bytes(b"weights")
    write_json(parent.folder / "standardise.json", Standardisation(100.0, 50.0))
    case = dataset.cases[0]
    save_revision(phantoms, case.id, 1 - stored_mask(dataset, case, "infection"))

    def train(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["train", *arguments])

    made = {}
    for name in (phantoms, f"{phantoms}@1"):
        result = train(name, "--from", "parent", "--epochs", "3", "--json")
        assert result.exit_code == 0, result.output
        [row] = json.loads(result.output)
        made[name] = Run(parent.folder.with_name(row["id"])).config
    assert [config.revision for config in made.values()] == [2, 1]
    for config in made.values():
        assert (config.metric, config.parent, config.model) == ("iou", "parent", parent.config.model)
    for arguments, says in (
        ([phantoms], "Missing option '--metric'"),
        ([phantoms, "--from", "parent", "--split", "both"], "with --from, the split is that of the run"),
    ):
        result = train(*arguments)
        assert (result.exit_code, says in result.output) == (2, True)
    assert train(f"{phantoms}@7", "--from", "parent").exit_code != 0
