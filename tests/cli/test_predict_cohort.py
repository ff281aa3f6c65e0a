"""`covseg predict` of many scans, as a user meets it: lines, exit code, files, and what one scan was meant to be."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from chests import BRIGHT, chest, make_run, save_scan
from cohorts import Here, save_scans, save_series

from covseg_core.prediction.cohort import predict as module

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _models(checkpoints_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for id in ("a", "b", "c"):
        make_run(checkpoints_folder, id, BRIGHT)
    monkeypatch.setattr(module, "Worker", Here)
    monkeypatch.chdir(tmp_path)


def test_a_line_a_scan_and_two_when_some_failed(covseg: Command) -> None:
    save_scans(Path("in"), 10, 20)
    Path("in", "scan3.nii.gz").write_bytes(b"nothing")
    save_scan(Path("in", "a_mask.nii.gz"), chest())
    result = covseg("predict", "in", "--all", "--run", "a", "--output", "out")
    assert result.returncode == 2
    lines = result.stdout.splitlines()
    assert lines[:2] == ["3 scans", "1 mask passed over, by the names of files and folders"]
    told = {line.split()[1]: line for line in lines[2:5]}
    assert all(re.match(r"\[[123]/3\] scan[123]  ", line) for line in told.values())
    assert re.search(r"scan1  0\.0 mL  \d+\.\d s", told["scan1"])
    assert f"scan3  failed: {Path('in/scan3.nii.gz').resolve()}: " in told["scan3"]
    assert lines[5] == "written to out: cohort.html, cohort.csv and a folder for each scan"
    assert result.stderr == "1 of 3 scans failed\n"
    Path("in", "scan3.nii.gz").unlink()
    save_scan(Path("in", "scan3.nii.gz"), chest())
    again = covseg("predict", "in", "--all", "--run", "a", "--output", "out")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[0] == "3 scans; 2 of them need not be predicted again"
    assert "[3/3] scan3  " in again.stdout and "[1/3]" not in again.stdout


def test_several_paths_and_several_models_are_told_apart(covseg: Command) -> None:
    """`--run a b` is two models, whatever comes before and after it."""
    save_scans(Path("in"), 10, 20)
    result = covseg(
        "predict", "in/scan1.nii.gz", "in/scan2.nii.gz", "--run", "a", "b", "--output", "out", "--json"
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    cohort = json.loads(result.stdout)
    assert cohort == json.loads(Path("out/cohort.json").read_text())
    assert [row["state"] for row in cohort["rows"]] == ["done", "done"]
    assert [model["run"] for model in cohort["settings"]["models"]] == ["a", "b"]
    assert cohort["rows"][0]["figures"]["agreement"] == 1
    one = covseg("predict", "--run", "a", "c", "in/scan1.nii.gz", "--output", "one")
    assert one.returncode == 0 and Path("one/mask_c.nii.gz").is_file()
    Path("c").mkdir()  # a folder that is called as a model is
    assert covseg("predict", "in/scan1.nii.gz", "--run", "a", "c", "--output", "one").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in", "nope", "--run", "a"], "covseg: nope: neither a file or folder nor a run; expected scans, and runs"),
        (["nope", "--run", "a"], "covseg: nope: no such file or folder"),
        (["in", "--all", "--run", "a", "--name", "x"], "covseg: name: x for several scans; expected one scan"),
        (["in", "--all", "--run", "a", "--series", "x"], "covseg: series: x for several scans; expected one scan"),
        (["in/scan1.nii.gz", "--run", "a", "--pseudonyms"], "covseg: pseudonyms: one scan; expected several, or --all"),
        (["empty", "--all", "--run", "a"], "covseg: empty: no scan; expected NIfTI or DICOM of CT"),
        (["in", "--run", "a"], "2 NIfTI files; expected one scan: name the file itself; or --all for every one"),
        (["two", "--run", "a"], "; or --all for every one of them"),
        (["two", "--run", "a", "--series", "nope"], "two: no series nope; expected"),
    ],
)
def test_what_can_be_mended_is_one_line(covseg: Command, arguments: list[str], words: str) -> None:
    save_scans(Path("in"), 10, 20)
    Path("empty").mkdir()
    for number in (1, 2):
        save_series(Path("two", str(number)), number, "doe", "20200401")
    result = covseg("predict", *arguments, "--output", "out")
    assert result.returncode == 2
    assert words in result.stderr and len(result.stderr.splitlines()) == 1
    assert not Path("out").exists()


def test_a_failed_series_is_named_by_its_folder_and_key(covseg: Command) -> None:
    save_series(Path("disc", "1"), 10, "doe", "20200401")
    save_series(Path("disc", "2"), 10, "doe", "20200402", PixelSpacing=None)
    result = covseg("predict", "disc", "--all", "--run", "a", "--output", "out")
    assert result.returncode == 2
    assert re.search(r"failed: \S+/disc/2 \(series [0-9a-f]{8}\): slices without position", result.stdout)


def test_one_scan_is_as_it_was(covseg: Command) -> None:
    """The same call as before there were cohorts writes the same files, and no table."""
    save_scans(Path("in"), 10)
    result = covseg("predict", "in", "--run", "a", "--output", "out")
    assert result.returncode == 0 and "written to out" in result.stdout
    assert {path.name for path in Path("out").iterdir()} == {
        "mask.nii.gz", "report.csv", "report.html", "report.json",
    }  # fmt: skip
