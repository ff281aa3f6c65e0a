"""The tutorial is the first thing that a newcomer does: each command in it must work and print what the page shows.

It is the main job as well, from files to a mask of a new scan: the models that it trains must have learned something.

Blocks marked `bash` are run, line by line. A block marked `text` is what the `bash` block before it prints, where `...`
stands for anything, within a line or over lines. Blocks marked `sh` are shown and not run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from covseg_core.data.library.datasets import load_dataset
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.runs import Run, open_runs
from covseg_core.runs.training_data import read_training_data

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
EXPERIMENT = "20261127-101500-demo"
"""The page's own; that of the test is another one, since it begins with date and time."""


def steps(page: str) -> Iterator[tuple[list[str], str]]:
    """Commands, and what the page says they print."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for number, (kind, text) in enumerate(blocks):
        if kind == "bash":
            following, shown = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
            yield text.replace("\\\n", "").splitlines(), shown if following == "text" else ""


def pattern(shown: str) -> re.Pattern[str]:
    """Any amount of space is one space, and `...` is anything: over lines where it stands alone."""
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    # of four dots the first is one: `0....` is any number below 1
    parts = [re.sub(r"(\\\.){3}(?!\\\.)", ".*?", re.escape(line)) + r"\n" for line in lines]
    return re.compile("".join(r"(?:.*\n)*?" if part == r".*?\n" else part for part in parts))


def squeezed(printed: str) -> str:
    return "".join(" ".join(line.split()) + "\n" for line in printed.splitlines())


def test_the_page_is_read() -> None:
    """The test below would pass on a page without commands."""
    assert len(list(steps(PAGE))) == 6
    assert all(shown for _, shown in steps(PAGE))
    assert pattern("a ...\n...\nz\n").fullmatch("a b c\nd\ne\nz\n")
    assert not pattern("a ...\nz\n").fullmatch("a b\nc\nz\n")
    assert pattern("0.... 1\n").fullmatch("0.25 1\n")
    assert not pattern("0.... 1\n").fullmatch("10 1\n")


@pytest.mark.training
@pytest.mark.timeout(1500)  # on one busy core it takes ten minutes
def test_every_command_of_the_tutorial_prints_what_the_page_shows_and_its_models_have_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    covseg = tmp_path / "bin" / "covseg"
    covseg.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m covseg_core "$@"\n')
    covseg.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{covseg.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COVSEG_DATA": str(tmp_path / "data"),
        "COVSEG_CHECKPOINTS": str(tmp_path / "checkpoints"),
    }
    for name in ("COVSEG_PRETRAINED", "COLUMNS"):
        environment.pop(name, None)
    experiment = EXPERIMENT
    for commands, shown in steps(PAGE):
        printed = ""
        for command in commands:
            done = subprocess.run(
                command.replace(EXPERIMENT, experiment),
                shell=True,
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            printed += done.stdout
            assert done.returncode == 0, f"{command}\n{printed}"
        if queued := re.search(r"^queued (\S+)-accuracy$", printed, re.MULTILINE):
            experiment = queued[1]
        expected = pattern(shown.replace(EXPERIMENT, experiment))
        assert expected.fullmatch(squeezed(printed)), f"The page shows for `{commands[-1]}`:\n{shown}\nNow:\n{printed}"
    monkeypatch.setenv("COVSEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COVSEG_CHECKPOINTS", str(tmp_path / "checkpoints"))
    runs = open_runs(experiment)
    check_scores(runs)
    check_mask(tmp_path / "out", runs)


def check_scores(runs: Sequence[Run]) -> None:
    """On patients it has not seen, the Dice model is better than nothing and than all of the lung."""
    comparison = evaluate_runs(runs)
    best_baseline = max(scores.pooled["dice"] for scores in comparison.baselines if scores.name != "threshold")
    dice = {evaluation.metric: evaluation.model.pooled["dice"] for evaluation in comparison.evaluations}
    assert dice["dice"] > best_baseline + 0.1, dice
    assert not comparison.leaky


def check_mask(folder: Path, runs: Sequence[Run]) -> None:
    """The new patient's, in the geometry of the scan."""
    new = load_dataset("new")
    case = new.case("phantom_004")
    mask, scan = nib.load(folder / "mask.nii.gz"), nib.load(new.path(case, "scan"))
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    truth = np.asarray(nib.load(new.path(case, "infection")).dataobj) > 0
    predicted = np.asarray(mask.dataobj) > 0
    assert 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()) > 0.2
    report = json.loads((folder / "report.json").read_text())
    data = read_training_data(runs[0])
    assert data is not None
    assert data.scans == len(runs[0].split.train), "without it, nothing can be called unusual"
    unlike = [warning for warning in report["warnings"] if "unlike" in warning]
    assert all(" of lung:" in warning for warning in unlike), "a scan of the same kind is not unusual"
    assert {model["run"] for model in report["models"]} == {run.id for run in runs}
