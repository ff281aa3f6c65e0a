"""`covseg predict` as a user meets it: exit code, files, one line for what can be mended, no wait for TensorFlow."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest
from dicomfiles import SECRET, Stack, make_stack, write
from evilmodels import EVIL, save_evil
from fakeruns import save_model
from known import save_line

from covseg_core.cli.predict import predict
from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.data.slices.intensity import Scale
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.combination import Combine
from covseg_core.runs import Run
from covseg_core.runs.operating_point import FILE, OperatingPoint

ROOT = Path(__file__).resolve().parents[2]
SIDE, SLICES = 48, 5
VOXEL_ML = 0.8 * 0.8 * 5 / 1000


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Tissue, two lungs at -800 HU, and 200 voxels of 200 HU in one of them."""
    voxels = np.full((SIDE, SIDE, SLICES), 40, np.int16)
    voxels[:, :3] = -1000
    voxels[5:20, 10:40] = voxels[28:43, 10:40] = -800
    voxels[30:40, 12:22, 2:4] = 200
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.8, -0.8, 5, 1])), tmp_path / "ct.nii.gz")
    return tmp_path / "ct.nii.gz"


@pytest.fixture(autouse=True)
def runs(checkpoints_folder: Path) -> None:
    """Models that mark what is brighter than a grey value: 76 is lung, 219 tissue, 246 the lesion."""
    for id, above in {"a": 230.0, "b": 100.0, "c": 240.0}.items():
        run = Run(checkpoints_folder / id)
        config = RunConfig(id, "e", "d", "f", "dice", "quick", "2026-01-01", prepare=PrepareConfig(size=SIDE))
        write_json(run.folder / "config.json", config)
        save_model(run.onnx, above, SIDE)


Command = Callable[..., subprocess.CompletedProcess[str]]


def fresh(*arguments: str | Path, before: str = "", folder: Path = ROOT) -> subprocess.Popen[str]:
    """The command in a process of its own, after the code `before`."""
    command = [sys.executable, "-c", f"{before}\nfrom covseg_core.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_it_writes_mask_and_report_and_says_how_much_it_found(covseg: Command, scan: Path, tmp_path: Path) -> None:
    result = covseg("predict", scan, "--run", "a", "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"infection  {200 * VOXEL_ML:.1f} mL, in 2 of 5 slices" in result.stdout
    assert str(tmp_path / "out") in result.stdout
    assert "not for diagnosis" in result.stdout
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(nib.load(scan).dataobj) == 200)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["mask"]["voxels"] == 200


@pytest.mark.parametrize("runs_given", [["--run", "a", "b", "c"], ["--run", "a", "--run", "b", "--run", "c"]])
def test_several_models_are_combined_however_they_are_given(
    covseg: Command, scan: Path, tmp_path: Path, runs_given: list[str]
) -> None:
    result = covseg("predict", scan, *runs_given, "--output", tmp_path / "out")
    assert result.returncode == 0
    assert "combined by the mean of the models' probabilities" in result.stdout
    names = {"mask.nii.gz", "mask_a.nii.gz", "mask_b.nii.gz", "mask_c.nii.gz", "disagreement.nii.gz"}
    names |= {"report.json", "report.csv", "report.html"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert np.asarray(nib.load(tmp_path / "out" / "mask.nii.gz").dataobj).sum() == 200


def test_a_tie_is_said(covseg: Command, scan: Path, tmp_path: Path) -> None:
    """Two models that disagree give the smaller mask in a vote: the user must hear of the rest."""
    arguments = ("predict", scan, "--run", "a", "b", "--output", tmp_path / "out")
    assert "tied" not in covseg(*arguments).stdout, "a mean has no ties"
    result = covseg(*arguments, "--combine", "vote")
    assert "combined by vote: more than half of the models" in result.stdout
    marked = np.asarray(nib.load(tmp_path / "out" / "mask_b.nii.gz").dataobj).sum()
    assert f"{marked - 200:,} voxels tied" in result.stdout


def test_mirror_images_are_asked_and_told(covseg: Command, scan: Path, tmp_path: Path) -> None:
    arguments = ("predict", scan, "--run", "a", "--output", tmp_path / "out")
    assert "mirrored" not in covseg(*arguments).stdout
    result = covseg(*arguments, "--mirror")
    assert (result.returncode, result.stderr) == (0, "")
    assert "each slice was shown mirrored, too, and the two answers averaged" in result.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["mirror"] is True


def test_another_way_to_combine_is_refused(covseg: Command, scan: Path, tmp_path: Path) -> None:
    result = covseg("predict", scan, "--run", "a", "b", "--output", tmp_path / "out", "--combine", "median")
    assert result.returncode == 2
    assert "'median' is not one of 'mean', 'vote'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
    assert tuple(next(p for p in predict.params if p.name == "combine").type.choices) == get_args(Combine)


def test_json_is_the_report_and_nothing_else(covseg: Command, scan: Path, tmp_path: Path) -> None:
    """For scripts: what they read on stdout must parse, warnings included."""
    result = covseg("predict", scan, "--run", "a", "--output", tmp_path / "out", "--json", "--threshold", "0.4")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(result.stdout)["threshold"] == 0.4


def test_a_second_prediction_says_what_it_replaced(covseg: Command, scan: Path, tmp_path: Path) -> None:
    assert "replaced" not in covseg("predict", scan, "--run", "a", "b", "--output", tmp_path / "out").stdout
    second = covseg("predict", scan, "--run", "c", "--output", tmp_path / "out").stdout
    masks = "disagreement.nii.gz, mask.nii.gz, mask_a.nii.gz, mask_b.nii.gz"
    assert f"replaced the earlier {masks}, report.csv, report.html, report.json" in second


def test_the_scale_can_be_named_as_the_error_says(covseg: Command, scan: Path, tmp_path: Path) -> None:
    assert tuple(next(p for p in predict.params if p.name == "scale").type.choices) == get_args(Scale)
    result = covseg("predict", scan, "--run", "a", "--output", tmp_path / "out", "--scale", "HU", "--json")
    assert json.loads(result.stdout)["scan"]["scale"] == "HU"


def lung_model(root: Path, folder: str) -> None:
    """A model like `b` that calls what it marks lungs."""
    source = Run(root / "b")
    id, prepare = Path(folder).name, PrepareConfig(size=SIDE)
    config = RunConfig(id, "e", "d", "f", "dice", "quick", "2026-01-01", "lung", prepare=prepare)
    write_json(root / folder / "config.json", config)
    (root / folder / "model.onnx").write_bytes(source.onnx.read_bytes())


def test_the_shipped_lung_model_is_asked_unless_told_otherwise(
    covseg: Command, scan: Path, tmp_path: Path, checkpoints_folder: Path
) -> None:
    out = ("--output", tmp_path / "out")
    assert "right lung" not in covseg("predict", scan, "--run", "a", *out).stdout, "there is none"
    lung_model(checkpoints_folder, "pretrained/lung")
    lung_model(checkpoints_folder, "other")
    result = covseg("predict", scan, "--run", "a", *out, "--json")
    assert json.loads(result.stdout)["lungs"]["run"] == "lung"
    assert (tmp_path / "out" / "lung_mask.nii.gz").exists()
    result = covseg("predict", scan, "--run", "a", *out, "--json", "--lungs", "other")
    assert json.loads(result.stdout)["lungs"]["run"] == "other"
    result = covseg("predict", scan, "--run", "a", *out, "--lungs", "none")
    assert "infected" not in result.stdout
    assert not (tmp_path / "out" / "lung_mask.nii.gz").exists()
    assert covseg("predict", scan, "--run", "lung", *out, "--json").returncode == 0, "a lung model needs none beside it"
    assert "% infected" in covseg("predict", scan, "--run", "a", *out).stdout


def test_small_parts_can_be_left_out(covseg: Command, scan: Path, tmp_path: Path) -> None:
    """200 voxels of 3.2 mm3 are 640 mm3."""
    for smallest, lesions in (("640", "1 lesion"), ("641", "0 lesions")):
        result = covseg("predict", scan, "--run", "a", "--output", tmp_path / "out", "--min-size", smallest)
        assert lesions in result.stdout
    result = covseg("predict", scan, "--run", "a", "--output", tmp_path / "out", "--min-size", "-1")
    assert (result.returncode, result.stderr[:21]) == (2, "covseg: smallest size")


def test_faint_parts_can_be_left_out(covseg: Command, scan: Path, tmp_path: Path, checkpoints_folder: Path) -> None:
    """The lesion's grey value is 246."""
    save_line(checkpoints_folder / "a" / "model.onnx", SIDE, 0, 1 / 256)
    out = ("--threshold", "0.9", "--output", tmp_path / "out")
    for peak, lesions in (("0.96", "1 lesion"), ("0.97", "0 lesions")):
        assert lesions in covseg("predict", scan, "--run", "a", *out, "--min-peak", peak).stdout
    result = covseg("predict", scan, "--run", "a", *out, "--min-peak", "1")
    assert (result.returncode, result.stderr) == (2, "covseg: peak: 1; expected from 0 to below 1\n")


def test_models_are_used_each_at_its_own_point_and_the_user_hears_which(
    covseg: Command, scan: Path, tmp_path: Path, checkpoints_folder: Path
) -> None:
    """In the mask of `a` the lesion is too small; `c` has no point."""
    for id, threshold, minimum in (("a", 0.35, 641), ("b", 0.7, 20)):
        run = Run(checkpoints_folder / id)
        rest = ("mm3", 0.8, 0.7, threshold, 0.75, 2, 20)
        point = OperatingPoint(1, "", sha256_file(run.onnx), "validation", "Dice", threshold, minimum, *rest)
        write_json(run.folder / FILE, point)
    arguments = ("predict", scan, "--run", "a", "--run", "b", "--run", "c", "--output", tmp_path / "out")
    result = covseg(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line.rpartition(", threshold ")[2] for line in lines[1:4]] == [
        "0.35, parts from 641 mm³", "0.7, parts from 20 mm³", "0.5, parts of any size",
    ]  # fmt: skip
    assert (
        "each model at its own, parts of the combined mask from 20 mm³ (the median): "
        "the operating points of the runs, 0.5 for c, which has none" in lines
    )
    assert "0 lesions" in lines[1] and "1 lesion" in lines[3] and "1 lesion" in lines[0]
    report = json.loads(covseg(*arguments, "--json").stdout)
    assert [(model["threshold"], model["minimum_mm3"]) for model in report["models"]] == [
        (0.35, 641), (0.7, 20), (0.5, 0),
    ]  # fmt: skip
    assert (report["threshold"], report["minimum_mm3"]) == (None, 20)
    assert report["operating"] in lines
    assert "operating points" not in covseg(*arguments, "--threshold", "0.5").stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["missing.nii", "--run", "a", "--output", "out"], "covseg: missing.nii: no such file"),
        (["bad.nii.gz", "--run", "a", "--output", "out"], "covseg: bad.nii.gz: not NIfTI"),
        (["ct.nii.gz", "--run", "nope", "--output", "out"], "covseg: nope: no such run"),
        (["ct.nii.gz", "--run", "a", "--output", "out", "--lungs", "nope"], "covseg: nope: no such run"),
        (
            ["ct.nii.gz", "--run", "a", "--output", "out", "--lungs", "b"],
            "covseg: lungs: b is a model of the infection",
        ),
        (["ct.nii.gz", "--run", "../a", "--output", "out"], "covseg: run: '../a'"),
        (["ct.nii.gz", "--run", "a", "a", "--output", "out"], "covseg: runs: a more than once"),
        (["ct.nii.gz", "--run", "a", "--output", "ct.nii.gz"], "covseg: ct.nii.gz: a file"),
        (["ct.nii.gz", "--run", "a", "--output", "bad.nii.gz/out"], "covseg: bad.nii.gz/out: bad.nii.gz is a file"),
        (["ct.nii.gz", "--run", "a", "--output", "out", "--threshold", "2"], "covseg: threshold: 2"),
        (["ct.nii.gz", "--run", "untrained", "--output", "out"], "covseg: untrained: has no model.onnx"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    covseg: Command,
    scan: Path,
    checkpoints_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    folder = scan.parent
    (folder / "bad.nii.gz").write_text("hello")
    config = RunConfig("untrained", "e", "d", "f", "dice", "quick", "2026-01-01")
    write_json(checkpoints_folder / "untrained" / "config.json", config)
    monkeypatch.chdir(folder)
    result = covseg("predict", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(line)
    assert not (folder / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX only")
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("change", EVIL[:3])
def test_a_strangers_model_folder_takes_no_more_memory_than_its_model_holds(
    scan: Path, tmp_path: Path, checkpoints_folder: Path, change: Callable
) -> None:
    """Each of these would take gigabytes; the process may take one, Python and libraries included."""
    save_evil(checkpoints_folder / "a" / "model.onnx", change, SIDE)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))"
    process = fresh("predict", scan, "--run", "a", "--output", tmp_path / "out", before=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(error.splitlines()) == 1
    assert "MiB of a U-Net with" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_disk_that_takes_no_more_bytes_leaves_the_folder_as_it_was(
    covseg: Command, scan: Path, tmp_path: Path, earlier: bool
) -> None:
    """The operating system itself refuses the write, here by a limit on the size of files."""
    out = tmp_path / "out"
    if earlier:
        assert covseg("predict", scan, "--run", "a", "--output", out).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    limit = "import resource, sys; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))"
    process = fresh("predict", scan, "--run", "b", "--output", out, before=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(error.splitlines()) == 1
    assert "File too large" in error
    assert ".covseg-" not in error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert out.exists() == earlier


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("writer", "seconds"), [("save_mask", 3), ("make_sheet", 60)])
def test_ctrl_c_leaves_nothing_behind(scan: Path, tmp_path: Path, writer: str, seconds: int) -> None:
    """Pressed while the files are written, the last moment at which something could be left.

    Masks are written in a thread, which cannot be interrupted: the mask at hand is waited for.
    """
    hang = (
        "import pathlib, signal, time\n"
        "from covseg_core.prediction.output import files\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests run in the background ignore it
        f"def hang(*_): pathlib.Path('writing').touch(); time.sleep({seconds})\n"
        f"files.{writer} = hang"
    )
    process = fresh("predict", scan, "--run", "a", "--output", "results/out", before=hang, folder=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "writing").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert not (tmp_path / "results").exists()
    assert not list(tmp_path.glob(".covseg-*"))


def test_nobody_waits_for_packages_that_prediction_does_not_need(scan: Path, tmp_path: Path) -> None:
    """TensorFlow costs seconds and 600 MB, the others tenths of a second each; the whole command takes about one."""
    heavy = ["tensorflow", "keras", "jax", "torch", "streamlit", "pandas", "skimage", "onnx", "tf2onnx", "matplotlib"]
    tell = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *[name for name in {heavy} if name in sys.modules], file=sys.stderr))"
    )
    process = fresh("predict", scan, "--run", "a", "b", "--output", tmp_path / "out", before=tell)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "LOADED\n")


# --- DICOM


@pytest.fixture
def dicom(tmp_path: Path, scan: Path) -> Path:
    """The scan as a folder of DICOM slices, of which one is missing."""
    voxels = np.asarray(nib.load(scan).dataobj)
    slices = np.ascontiguousarray(voxels.transpose(2, 1, 0)[[0, 1, 1, 1, 2, 3, 3, 4]])
    positions = np.array([[0, 0, 5.0 * k] for k in range(len(slices))])
    stack = Stack(slices, positions, spacing=(0.8, 0.8))
    write(tmp_path / "dicom", stack.without(2))
    return tmp_path / "dicom"


def test_a_folder_and_a_zip_of_dicom_slices(tmp_path: Path, dicom: Path, covseg: Command) -> None:
    """The mask lies on the slices' own positions, the missing one counted, and nobody is named."""
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", dicom)
    for source in (dicom, Path(packed)):
        output = tmp_path / source.suffix / "out"
        result = covseg("predict", source, "--run", "a", "--output", output)
        assert result.returncode == 0, result.stderr
        assert "1 of 8 planes are interpolated, at 10.0 mm" in result.stderr
        mask = nib.load(output / "mask.nii.gz")
        assert mask.shape == (SIDE, SIDE, 8)
        np.testing.assert_allclose(mask.affine, np.diag([-0.8, -0.8, 5, 1]), atol=1e-5)
        expected = np.zeros(mask.shape)
        expected[30:40, 12:22, 4:7] = 1
        np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
        texts = [result.stdout, result.stderr, *(str(file.read_bytes()) for file in output.glob("*.json"))]
        assert SECRET not in "".join(texts)


def test_a_series_is_chosen_by_its_key(tmp_path: Path, dicom: Path, covseg: Command) -> None:
    write(dicom / "other", make_stack((12, SIDE, SIDE)))
    arguments = ("predict", dicom, "--run", "a", "--output", tmp_path / "out")
    result = covseg(*arguments)
    assert result.returncode == 2
    assert "2 series can be used" in result.stderr and "Traceback" not in result.stderr
    key = re.search(r"(\w{8}) \(axial, 8 slices", result.stderr)
    assert key is not None
    assert covseg(*arguments, "--series", key[1]).returncode == 0
    assert covseg(*arguments, "--series", "00000000").returncode == 2


def test_a_folder_that_is_no_scan(tmp_path: Path, covseg: Command) -> None:
    (tmp_path / "folder").mkdir()
    result = covseg("predict", tmp_path / "folder", "--run", "a", "--output", tmp_path / "out")
    assert (result.returncode, "no files" in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
