"""What a user types: train, runs, export, evaluate, and how mistakes are answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from covseg_core.runs import list_runs

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


def test_train_list_show_evaluate_and_delete(phantoms):
    trained = json.loads(_covseg("train", phantoms, "--metric", "dice", *TINY, "--wait", "--json").stdout)
    [row] = trained
    assert (row["state"], row["epoch"], row["metric"]) == ("finished", 2, "dice")

    assert json.loads(_covseg("runs", "list", "--json").stdout) == trained
    assert row["id"] in _covseg("runs", "list").stdout
    shown = json.loads(_covseg("runs", "show", row["id"], "--json").stdout)
    assert [epoch["epoch"] for epoch in shown["history"]] == [1, 2]
    assert shown["config"]["prepare"]["size"] == 32
    assert "epoch 2 of 2" in _covseg("runs", "show", row["id"]).stdout

    [run] = list_runs()
    run.onnx.unlink()
    assert "covseg export" in _covseg("evaluate", row["id"], code=2).stderr
    assert "differs from Keras" in _covseg("export", row["id"]).stdout
    text = _covseg("evaluate", row["id"]).stdout
    assert "background" in text, "a model is never shown without the trivial baselines"
    assert "split by patient" in text
    scores = json.loads(_covseg("evaluate", row["id"], "--json").stdout)
    assert 0 <= scores["evaluations"][0]["model"]["pooled"]["dice"] <= 1

    assert "is finished" in _covseg("runs", "resume", row["id"], code=2).stderr
    assert "is finished" in _covseg("runs", "stop", row["id"], code=2).stderr
    assert "deleted" in _covseg("runs", "delete", row["id"], "--yes").stdout
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


def test_training_says_who_stands_on_which_side(phantoms):
    """A split by slice is leaky, and the user must read it before believing a score."""
    honest = _covseg("train", phantoms, "--metric", "dice", *TINY, "--wait")
    assert "Split by patient, seed 0" in honest.stdout
    assert "LEAKY" not in honest.stdout
    leaky = _covseg("train", phantoms, "--metric", "dice", *TINY, "--split", "slice", "--wait")
    assert "LEAKY: 6 patients on more than one side" in leaky.stdout
    assert "epoch 2 of 2" in leaky.stdout
