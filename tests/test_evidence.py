"""The evidence bundle. What a user loses otherwise: numbers in a paper that somebody else can check."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakeruns import fake_run

from covseg_core.cli.evidence import bundle, verify
from covseg_core.config import METRICS, SplitConfig
from covseg_core.data.datasets import Dataset, dataset_folder, delete_dataset
from covseg_core.data.importing import import_sample
from covseg_core.errors import CovsegError, DatasetError, RunError
from covseg_core.evaluation import verify as verifying
from covseg_core.evaluation.bundle import MANIFEST, Manifest, write_bundle
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.verify import verify_bundle
from covseg_core.files import to_json
from covseg_core.runs import Run, delete_run, list_runs

SIZE = 32


@pytest.fixture
def dataset(data_folder: Path) -> Dataset:
    return import_sample("phantoms", scans=5, size=48)


@pytest.fixture
def runs(dataset: Dataset) -> list[Run]:
    """Three models that see infection above another grey value each."""
    split = SplitConfig(fractions=(0.4, 0.2, 0.4))
    return [
        fake_run(dataset, f"first-{metric}", metric, split, limit)
        for metric, limit in zip(METRICS, (90, 110, 130), strict=True)
    ]


@pytest.fixture
def evidence(runs: list[Run], tmp_path: Path) -> Path:
    path = tmp_path / "evidence.zip"
    write_bundle(runs, evaluate_runs(runs), path)
    return path


def changed(path: Path, name: str, change: Callable[[bytes], bytes], *, honest: bool = False) -> Path:
    """A copy with one file changed; `honest`: the manifest knows of it."""
    import hashlib

    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    files[name] = change(files[name])
    if honest:
        manifest = json.loads(files[MANIFEST])
        manifest["files"][name] = hashlib.sha256(files[name]).hexdigest()
        files[MANIFEST] = json.dumps(manifest).encode()
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content)
    return other


def test_the_numbers_come_out_again_on_a_computer_that_has_the_data_but_not_the_runs(
    evidence: Path, runs: list[Run]
) -> None:
    for run in list_runs():
        delete_run(run)
    result = verify_bundle(evidence)
    assert result.same, result
    assert [check.run for check in result.runs] == ["first-accuracy", "first-iou", "first-dice"]
    assert all(check.slices > 0 and check.largest_difference == 0 for check in result.runs)
    assert result.sentence.startswith("The numbers are the same: 3 models on ")
    assert not list_runs(), "nothing is left in the user's folder"


def test_a_bundle_holds_what_a_reader_needs_and_no_picture_of_a_patient(evidence: Path, dataset: Dataset) -> None:
    with zipfile.ZipFile(evidence) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read(MANIFEST))
        readme = archive.read("README.txt").decode()
    for metric in METRICS:
        for file in ("config.json", "split.json", "history.csv", "model.onnx"):
            assert f"runs/first-{metric}/{file}" in names
    assert {"tables/scores.csv", "tables/slices.csv", "comparison.json", "figures/dice.html"} <= set(names)
    assert {"python", "numpy", "keras"} <= manifest["software"].keys()
    assert manifest["data"]["cases"].keys() == {case.id for case in dataset.cases}
    assert all(len(cases["scan"]) == 64 for cases in manifest["data"]["cases"].values())
    assert "not for diagnosis" in readme
    assert not [name for name in names if name.endswith((".npy", ".npz", ".nii.gz", ".nii", ".png", ".log"))]


def test_a_number_that_was_made_better_is_found_out(evidence: Path) -> None:
    """Even by somebody who has made the manifest fit: the evaluation itself is repeated."""

    def better(content: bytes) -> bytes:
        comparison = json.loads(content)
        comparison["evaluations"][2]["model"]["pooled"]["dice"] += 0.05
        return json.dumps(comparison).encode()

    with pytest.raises(CovsegError, match=r"comparison.json was changed"):
        verify_bundle(changed(evidence, "comparison.json", better))
    result = verify_bundle(changed(evidence, "comparison.json", better, honest=True))
    assert [check.agrees for check in result.runs] == [True, True, False]
    assert result.runs[2].largest_difference == pytest.approx(0.05)
    assert "NOT the same: first-dice differs" in result.sentence


def test_other_weights_are_found_out(evidence: Path, runs: list[Run]) -> None:
    other = runs[0].onnx.read_bytes()
    result = verify_bundle(changed(evidence, "runs/first-dice/model.onnx", lambda _: other, honest=True))
    assert not result.agrees
    assert result.runs[2].differing_slices > 0


def test_a_last_digit_is_no_contradiction(evidence: Path) -> None:
    """Other processors round otherwise."""

    def nudged(content: bytes) -> bytes:
        comparison = json.loads(content)
        comparison["evaluations"][0]["model"]["pooled"]["dice"] += 1e-4
        return json.dumps(comparison).encode()

    result = verify_bundle(changed(evidence, "comparison.json", nudged, honest=True))
    assert result.agrees
    assert not result.same
    assert "within rounding" in result.sentence


def test_without_the_same_data_nothing_is_claimed(evidence: Path, dataset: Dataset, tmp_path: Path) -> None:
    scan = dataset_folder(dataset.name)
    assert scan.is_dir()
    delete_dataset(dataset.name)
    with pytest.raises(DatasetError, match="which is not here"):
        verify_bundle(evidence)
    import_sample(dataset.name, scans=5, size=48, seed=1)
    with pytest.raises(DatasetError, match=r"is not the bundle's: phantom_001"):
        verify_bundle(evidence)


@pytest.mark.parametrize("name", ["runs/first-dice/split.json", MANIFEST])
def test_a_bundle_with_a_file_missing_is_refused(evidence: Path, name: str) -> None:
    with zipfile.ZipFile(evidence) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist() if entry != name}
    with zipfile.ZipFile(evidence, "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content)
    with pytest.raises(CovsegError, match="lacks|no such file"):
        verify_bundle(evidence)


def test_what_is_no_bundle_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    done = CliRunner().invoke(verify, [str(tmp_path / "text.zip")])
    assert isinstance(done.exception, CovsegError)
    with zipfile.ZipFile(tmp_path / "later.zip", "w") as archive:
        data = verifying.Data("x", "", {})
        archive.writestr(MANIFEST, to_json(Manifest(99, "", (), data, {})))
    with pytest.raises(CovsegError, match="version 99"):
        verify_bundle(tmp_path / "later.zip")


def test_an_unfinished_run_is_no_evidence(runs: list[Run], tmp_path: Path) -> None:
    comparison = evaluate_runs(runs)
    runs[1].history_csv.unlink()
    with pytest.raises(RunError, match=r"no history.csv"):
        write_bundle(runs, comparison, tmp_path / "evidence.zip")
    assert not list(tmp_path.glob("*evidence.zip")), "half a bundle is left"


def test_the_commands_say_what_came_out_and_fail_if_it_differs(runs: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    done = CliRunner().invoke(bundle, [*(run.id for run in runs), "--output", str(path)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(verify, [str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["same"] is True
    worse = changed(path, "runs/first-dice/model.onnx", lambda _: runs[0].onnx.read_bytes(), honest=True)
    done = CliRunner().invoke(verify, [str(worse)])
    assert done.exit_code == 1
    assert "NOT the same" in done.output
