"""The models that come with covseg: who has no data to train on has nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest

from covseg_core.data.phantom.phantom import write_sample
from covseg_core.evaluation.measures import count, overlap
from covseg_core.evaluation.results import Evaluation
from covseg_core.files import read_json, sha256_file
from covseg_core.prediction.predict import predict
from covseg_core.runs import Run
from covseg_core.runs.operating_point import read_point
from covseg_core.runs.training_data import read_training_data

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "checkpoints" / "pretrained"
SINGLE = ("infection-accuracy", "infection-dice", "infection-iou", "lung")
NAMES = ("infection", *SINGLE)


def test_all_that_the_readme_promises_is_there():
    assert tuple(sorted(folder.name for folder in SHIPPED.iterdir())) == NAMES


@pytest.mark.parametrize("name", SINGLE)
def test_a_shipped_model_is_whole_small_and_holds_no_data(name: str):
    """Its settings, split, curves and scores are what makes it more than a file of weights."""
    run = Run(SHIPPED / name)
    assert run.id == run.config.id == name
    assert run.config.target == name.split("-")[0]
    assert run.status.state == "finished"
    assert len(run.history()) == run.config.train.epochs
    assert run.split.test
    assert read_training_data(run) is not None
    evaluation = read_json(run.evaluation, Evaluation)
    assert evaluation.model_sha256 == sha256_file(run.onnx)
    assert not evaluation.leaky
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    for needed in ("not for diagnosis", "non-commercial", "Where it fails", evaluation.model_sha256):
        assert needed in card
    assert sum(file.stat().st_size for file in run.folder.iterdir()) < 10e6
    assert not {file.suffix for file in run.folder.iterdir()} & {".npy", ".npz", ".png", ".gz"}, "shows patients' data"


def test_the_recommended_model_is_whole_small_and_holds_no_data() -> None:
    """It is several networks in one file, so that it has a curve for each, and a threshold that was picked for it."""
    run = Run(SHIPPED / "infection")
    config, point, data = run.config, read_point(run), read_training_data(run)
    assert (run.id, config.id, config.target, config.prepare.region) == ("infection", "infection", "infection", "lungs")
    assert run.status.state == "finished"
    curves = sorted(run.folder.glob("history_fold*.csv"))
    assert len(curves) >= 3
    assert point is not None, "a threshold of these very weights"
    assert data is not None
    assert len(data.scan_sha256) > 20, "of each scan with its full field of view, cropped, and put together"
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    digest = sha256_file(run.onnx)
    for needed in ("not for diagnosis", "non-commercial", "Where it fails", "False alarms", "noncovid", digest):
        assert needed in card
    assert sum(file.stat().st_size for file in run.folder.iterdir()) < 15e6
    pictures = {file.name for file in run.folder.iterdir() if file.suffix in {".npy", ".npz", ".png", ".gz"}}
    assert pictures == {"failure1.png", "failure2.png", "failure3.png"}
    for name in pictures:
        colours = np.unique(cv2.imread(str(run.folder / name)).reshape(-1, 3), axis=0)
        assert len(colours) <= 3, "outlines on white, no pixel of a patient"


def test_the_recommended_model_marks_nothing_beyond_the_lungs(tmp_path: Path) -> None:
    """What it made up before lay in shoulders, under the diaphragm and in the chest wall."""
    [case] = write_sample(tmp_path / "new", scans=1, size=96, seed=7)
    prediction = predict(case / "ct.nii.gz", Run(SHIPPED / "infection"), lungs=Run(SHIPPED / "lung"))
    assert prediction.lungs is not None
    near = cv2.dilate((prediction.lungs.max(axis=0) > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
    assert prediction.mask.any()
    assert not prediction.mask.max(axis=0)[near == 0].any()
    assert prediction.report.threshold == read_point(Run(SHIPPED / "infection")).threshold  # type: ignore[union-attr]


def test_a_fresh_clone_predicts_wherever_runs_are_kept(tmp_path: Path):
    """The first thing that somebody tries who has a scan and nothing else."""
    [case] = write_sample(tmp_path / "new", scans=1, size=96, seed=7)
    environment = {name: value for name, value in os.environ.items() if name != "COVSEG_PRETRAINED"}
    command = ["covseg_core", "predict", str(case / "ct.nii.gz"), "--run", "infection-dice", "--output"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"COVSEG_CHECKPOINTS": str(tmp_path / "elsewhere")},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    mask, scan = nib.load(tmp_path / "out" / "mask.nii.gz"), nib.load(case / "ct.nii.gz")
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    assert (tmp_path / "out" / "lung_mask.nii.gz").exists(), "the shipped lung model is used without being asked for"


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "lung"])
def test_on_a_patient_it_has_not_seen_it_does_what_its_card_says(name: str, real_data: Path, tmp_path: Path):
    from covseg_core.prediction.predict import predict

    run, case = Run(SHIPPED / name), real_data / "ct20" / "coronacases_006"
    assert case.name in run.split.test
    predicted = predict(case / "ct.nii.gz", [run], tmp_path / "out", lungs=Run(SHIPPED / "lung")).mask
    truth = np.asarray(nib.as_closest_canonical(nib.load(case / "infection_mask.nii.gz")).dataobj).T
    [claimed] = [
        scan.values["dice"] for scan in read_json(run.evaluation, Evaluation).model.scans if scan.case == case.name
    ]
    dice = overlap(count(truth, predicted))["dice"]
    assert dice == pytest.approx(claimed, abs=0.01)
    assert dice > 0.7
