"""Prediction. What a user loses otherwise: a mask that lies on the wrong side of the patient or of the threshold, a
vote that is no majority, a report with a name in it, or half a result that looks whole."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from chests import BRIGHT, LESION, LUNG, SIDE, SLICES, TISSUE, chest, grey, make_run, save_scan, stored
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from covseg_core.config import PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Case, Dataset, dataset_folder
from covseg_core.data.splitting.split import Split
from covseg_core.errors import Cancelled, CovsegError, RunError, ScanError, SettingError, UnknownScale
from covseg_core.files import read_json, sha256_file, write_json
from covseg_core.prediction.ask import ask
from covseg_core.prediction.output import files as writing
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import OnDisk, Spool
from covseg_core.runs import Run
from covseg_core.runs.operating_point import Thresholds
from covseg_core.runs.training_data import FILE, Range, TrainingData


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return save_scan(tmp_path / "ct.nii.gz", chest())


# --- where the mask lies


@settings(max_examples=60, deadline=None)
@given(
    axes=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    angles=st.tuples(*[st.floats(-20, 20)] * 3),
    codes=st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 4), (0, 0)]),
    dtype=st.sampled_from([np.int16, np.int32, np.float32, np.float64]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_the_mask_lies_on_the_lesion_however_the_file_is_stored(
    tmp_path_factory: pytest.TempPathFactory, axes, flips, angles, codes, dtype, suffix
) -> None:
    """The model marks what is brighter than 120 HU, so the mask's file must equal the scan's file, thresholded."""
    folder = tmp_path_factory.mktemp("stored")
    run = make_run(folder, "lesions", BRIGHT)
    orientation = np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)])
    affine = np.eye(4)
    if codes != (0, 0):  # without codes the file says nothing about its orientation
        affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([0.8, 0.8, 5.0])
        affine[:3, 3] = -120, 35, -900
        affine = affine @ nib.orientations.inv_ornt_aff(orientation, chest().shape)
        voxels = nib.orientations.apply_orientation(chest(), orientation).astype(dtype)
    else:
        voxels = chest().astype(dtype)
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    nib.save(image, folder / f"ct{suffix}")

    predict(folder / f"ct{suffix}", [run], folder / "out")

    ct, mask = nib.load(folder / f"ct{suffix}"), nib.load(folder / "out" / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(ct.dataobj) > 120)
    np.testing.assert_array_equal(mask.affine, ct.affine)
    for form in ("sform", "qform"):
        assert mask.header[f"{form}_code"] == ct.header[f"{form}_code"]
        np.testing.assert_array_equal(getattr(mask.header, f"get_{form}")(), getattr(ct.header, f"get_{form}")())
    assert mask.header.get_zooms() == ct.header.get_zooms()
    assert mask.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("size", "resize"), [(32, "area"), (64, "area"), (192, "area"), (32, "thesis"), (64, "thesis")]
)
@pytest.mark.parametrize("x", [slice(0, 96), slice(10, 90)])
def test_a_model_of_another_size_finds_the_lesion_in_place(
    tmp_path: Path, runs: Callable[..., Run], size: int, resize: Any, x: slice
) -> None:
    """Also where planes are padded to a square. An L, so that no flip or transposition goes unseen."""
    voxels = np.kron(np.where(chest() == LESION, LUNG, chest()), np.ones((2, 2, 1), np.int16))
    voxels[62:70, 26:60, 2:5] = voxels[70:80, 26:34, 3:4] = LESION
    voxels = voxels[x]
    save_scan(tmp_path / "ct.nii", voxels)
    run = runs(above=grey((LESION + LUNG) / 2), prepare=PrepareConfig(size, resize=resize))
    in_lung = np.s_[:, 24:76, 60 - x.start : 82 - x.start]
    mask, lesion = predict(tmp_path / "ct.nii", [run]).mask[in_lung], (voxels == LESION).T[in_lung]
    pixel = max(1 if resize == "area" else 2, 96 / size)  # of the model, in voxels; the thesis takes every second one
    centres = [np.mean(np.nonzero(part), axis=1) for part in (mask, lesion)]
    np.testing.assert_allclose(centres[0], centres[1], atol=pixel * 0.75)
    assert 2 * np.sum(mask & lesion) / (mask.sum() + lesion.sum()) > 0.8


# --- which voxels are in it


def test_each_model_sees_the_slices_as_in_its_training(scan: Path, runs: Callable[..., Run]) -> None:
    """Size and window differ between the models of one vote."""
    narrow = PrepareConfig(size=96, window=(-100.0, 100.0))
    models = [runs("default", BRIGHT), runs("narrow", 254, prepare=narrow), runs("lungs", grey(-790))]
    prediction = predict(scan, models)
    hu = stored(scan).T
    np.testing.assert_array_equal(prediction.mask_of("default"), hu > 120)
    np.testing.assert_array_equal(prediction.mask_of("narrow")[hu == LUNG], 0)
    assert prediction.mask_of("narrow")[hu == LESION].mean() > 0.8
    np.testing.assert_array_equal(prediction.mask_of("lungs"), hu > -790)


def test_the_threshold_is_inclusive_and_in_the_report(scan: Path, runs: Callable[..., Run]) -> None:
    """At 0.5 exactly the evaluation counts a voxel in, so the prediction must, too."""
    run = runs(above=0, slope=1 / 256)
    probability = round(grey(LESION)) / 256  # exact in binary
    at, above = (predict(scan, [run], threshold=probability + more).report for more in (0, 1e-6))
    assert (at.mask.voxels, at.threshold) == (np.count_nonzero(stored(scan) == LESION), probability)
    assert (above.mask.voxels, above.threshold) == (0, probability + 1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_more_than_half_of_the_models_decide(tmp_path: Path, runs: Callable[..., Run], count: int) -> None:
    """Every combination of votes occurs: 6 grey levels in the lesion, models that split them in all ways."""
    voxels = chest()
    levels = np.array([-100, -25, 25, 75, 125, 200])
    voxels[32:38, 12:30, 3:5] = levels[:, None, None]
    save_scan(tmp_path / "ct.nii.gz", voxels)
    limits = {"a": 150, "b": -50, "c": 50, "d": 100, "e": 0}
    models = [runs(id, grey(limit)) for id, limit in itertools.islice(limits.items(), count)]

    prediction = predict(tmp_path / "ct.nii.gz", models, tmp_path / "out", combine="vote")

    votes = sum((voxels > limit).astype(int) for limit in itertools.islice(limits.values(), count))
    np.testing.assert_array_equal(stored(tmp_path / "out" / "mask.nii.gz"), votes > count / 2)
    assert prediction.report.tied_voxels == np.count_nonzero(votes * 2 == count)
    written = sorted(path.name for path in (tmp_path / "out").glob("mask_*"))
    assert written == ([f"mask_{run.id}.nii.gz" for run in models] if count > 1 else [])
    for run, model in zip(models, prediction.report.models, strict=True):
        np.testing.assert_array_equal(prediction.mask_of(run.id), (voxels > limits[run.id]).T)
        if count > 1:
            np.testing.assert_array_equal(stored(tmp_path / "out" / str(model.mask.file)), voxels > limits[run.id])


# --- the report


def test_the_report_holds_what_one_needs_to_trust_and_repeat_it(
    tmp_path: Path, scan: Path, runs: Callable[..., Run]
) -> None:
    models = [runs("a"), runs("b", grey(-790), metric="iou"), runs("c", 255)]
    returned = predict(scan, models, tmp_path / "out", threshold=0.4).report
    report = read_json(tmp_path / "out" / "report.json", Report)
    assert report == returned
    assert "not for diagnosis" in report.notice
    assert (report.target, report.threshold, report.tied_voxels) == ("infection", 0.4, 0)
    lesion = stored(scan).T == LESION
    assert report.mask.voxels == lesion.sum()
    assert report.mask.volume_ml == pytest.approx(lesion.sum() * 0.8 * 0.8 * 5 / 1000)
    assert report.mask.positive_slices == (3, 4, 5)
    assert report.scan.sha256 == sha256_file(scan)
    assert report.scan.shape == (SLICES, SIDE, SIDE)
    assert report.scan.spacing_mm == pytest.approx((5, 0.8, 0.8))
    assert (report.scan.orientation, report.scan.scale) == ("RAS", "HU")
    assert [(model.run, model.metric) for model in report.models] == [("a", "dice"), ("b", "iou"), ("c", "dice")]
    assert [model.sha256 for model in report.models] == [sha256_file(run.onnx) for run in models]
    assert report.models[1].mask.voxels == np.count_nonzero(stored(scan) > -790)
    assert report.models[2].mask == type(report.mask)("mask_c.nii.gz", 0, 0.0, ())
    assert {"covseg", "python", "onnxruntime", "numpy", "nibabel"} <= set(report.versions)
    assert report.files == {
        path.name: sha256_file(path) for path in (tmp_path / "out").glob("*") if path.name != "report.json"
    }
    assert report.seconds > 0


def test_volumes_are_right_on_a_sheared_grid(tmp_path: Path, runs: Callable[..., Run]) -> None:
    """With a tilted gantry the product of the three spacings is too large."""
    affine = np.diag([0.8, 0.8, 5.0, 1.0])
    affine[1, 2] = 2.0
    report = predict(save_scan(tmp_path / "ct.nii", chest(), affine), [runs()]).report
    assert report.mask.volume_ml == pytest.approx(report.mask.voxels * 0.8 * 0.8 * 5 / 1000)


def test_no_volume_is_invented_where_the_spacing_is_unknown(tmp_path: Path, runs: Callable[..., Run]) -> None:
    report = predict(save_scan(tmp_path / "ct.nii", chest(), np.eye(4)), [runs()], tmp_path / "out").report
    assert report.mask.volume_ml is None
    assert report.scan.voxel_ml is None
    assert any("no mL" in warning for warning in report.warnings)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["mask"]["volume_ml"] is None


def test_no_name_from_the_scan_reaches_the_results(tmp_path: Path, runs: Callable[..., Run]) -> None:
    """File names and the free text of headers hold patients' names; results are mailed to colleagues."""
    voxels = chest()
    voxels[:, 24:][voxels[:, 24:] == LUNG] = voxels[:24][voxels[:24] == LUNG] = TISSUE
    image = nib.Nifti1Image(voxels, np.eye(4))  # little lung and no spacing: warnings are searched, too
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    (tmp_path / "Doe Jane").mkdir()
    nib.save(image, tmp_path / "Doe Jane" / "doe_jane_ct.nii.gz")
    scan = tmp_path / "Doe Jane" / "doe_jane_ct.nii.gz"
    prediction = predict(scan, [runs("a"), runs("b")], tmp_path / "out")
    assert len(prediction.report.warnings) == 2
    files = list((tmp_path / "out").iterdir())
    assert len(files) == 7
    for path in files:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for text in (raw, path.read_bytes()):
            assert b"doe" not in text.lower(), path.name
            assert b"jane" not in text.lower(), path.name


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_came_without_its_data_still_knows_its_training_scans(
    scan: Path, runs: Callable[..., Run], known: bool
) -> None:
    """As the shipped ones do: who tries them on a public scan is told that they have seen it."""
    run = runs(dataset="not here")
    look = Range(0, 255)
    data = TrainingData(
        scans=1, patients=1, slices=2, scales={"HU": 1}, spacing_known=0, slice_mm=None, pixel_mm=None,
        rows=Range(1, 9999), slices_per_scan=Range(1, 9999), lung_grey=None, tissue_grey=None, body_share=look,
        padding_share=look, scan_sha256=("0" * 64, *([sha256_file(scan)] if known else [])),
    )  # fmt: skip
    write_json(run.folder / FILE, data)
    warnings = predict(scan, [run]).report.warnings
    assert any("lesions was trained with this scan" in warning for warning in warnings) == known


@pytest.mark.parametrize(("part", "known"), [("train", True), ("validation", True), ("test", False), (None, False)])
def test_a_scan_the_model_was_trained_with_is_told(
    scan: Path, runs: Callable[..., Run], part: str | None, known: bool
) -> None:
    """Its mask looks better than any the model will make of a new patient."""
    run = runs(dataset="cases")
    fields = {"labels": None, "infection": None, "lung": None, "infection_voxels": None, "lung_voxels": None}
    digest = sha256_file(scan) if part else "0" * 64
    case = Case("c", "p", False, "ct.nii.gz", shape=(SLICES, SIDE, SIDE), spacing=(5, 0.8, 0.8), spacing_known=True,
                orientation="RAS", scale="HU", sha256={"scan": digest}, **fields)  # fmt: skip
    write_json(dataset_folder("cases") / "dataset.json", Dataset("cases", (case,), "2026-01-01", ""))
    parts = {name: {"c": (0, 1)} if name == (part or "train") else {} for name in ("train", "validation", "test")}
    write_json(run.folder / "split.json", Split(SplitConfig(), **parts))
    warnings = predict(scan, [run]).report.warnings
    assert any("lesions was trained with this scan" in warning for warning in warnings) == known


def test_the_scale_can_be_set(tmp_path: Path, runs: Callable[..., Run]) -> None:
    voxels = np.rint(grey(chest().astype(float)))
    scan = save_scan(tmp_path / "ct.nii", voxels.astype(np.int16))
    prediction = predict(scan, [runs()])
    assert prediction.report.scan.scale == "0-255"
    np.testing.assert_array_equal(prediction.mask, (chest() == LESION).T)
    voxels[0, 0, 0] = -20
    doubtful = save_scan(tmp_path / "doubtful.nii", voxels.astype(np.int16))
    with pytest.raises(UnknownScale, match="scale HU or 0-255"):
        predict(doubtful, [runs()])
    np.testing.assert_array_equal(predict(doubtful, [runs()], scale="0-255").mask, (chest() == LESION).T)


# --- whole or not at all


def test_without_a_folder_nothing_is_written(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    run = runs()
    before = sorted(tmp_path.rglob("*"))
    prediction = predict(scan, [run])
    assert (prediction.output, prediction.report.mask.file, prediction.report.files) == (None, None, {})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_the_earlier_result(
    tmp_path: Path, scan: Path, runs: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(scan, [runs("a"), runs("b")], out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    save, written = writing.save_mask, []

    def full(mask: np.ndarray, geometry: Any, path: Path) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(mask, geometry, path)
        written.append(path)

    monkeypatch.setattr(writing, "save_mask", full)
    with pytest.raises(CovsegError, match=r"out: cannot be written \(No space left on device\)"):
        predict(scan, [runs("a"), runs("c")], out)
    assert written
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_second_prediction_replaces_the_first_and_says_so(
    tmp_path: Path, scan: Path, runs: Callable[..., Run]
) -> None:
    first = predict(scan, [runs("a"), runs("b")], tmp_path / "out")
    second = predict(scan, [runs("c")], tmp_path / "out")
    assert first.replaced == ()
    reports = ("report.csv", "report.html", "report.json")
    assert second.replaced == ("disagreement.nii.gz", "mask.nii.gz", "mask_a.nii.gz", "mask_b.nii.gz", *reports)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mask.nii.gz", *reports]


def test_an_edited_mask_is_told_before_the_scan_is_read(tmp_path: Path, runs: Callable[..., Run]) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(b"corrected by hand")
    with pytest.raises(SettingError, match="expected another folder"):
        predict(tmp_path / "no-such-scan.nii", [runs()], tmp_path)
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"corrected by hand"


@pytest.mark.parametrize("after", [0, 6, 8, 12, 18])
def test_cancel_stops_it_with_nothing_written(tmp_path: Path, scan: Path, runs: Callable[..., Run], after: int) -> None:
    """Even when it comes with the last slice of three models."""
    cancel = threading.Event()
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= after:
            cancel.set()

    models = [runs(id) for id in "abc"]
    if after == 18:
        predict(scan, models, progress=progress)
        assert seen == [(done, 18) for done in (0, 6, 12, 18)]
    cancel.clear()
    with pytest.raises(Cancelled):
        predict(scan, models, tmp_path / "out", progress=progress, cancel=cancel)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".covseg-*"))


# --- what is refused


@pytest.mark.parametrize("damage", ["truncated", "text", "missing", "abdomen"])
def test_a_scan_that_cannot_be_used_leaves_no_folder(
    tmp_path: Path, scan: Path, runs: Callable[..., Run], damage: str
) -> None:
    if damage == "truncated":
        scan.write_bytes(scan.read_bytes()[:-40])
    elif damage == "text":
        scan.write_bytes(b"hello")
    elif damage == "missing":
        scan.unlink()
    else:
        save_scan(scan, np.where(chest() == LUNG, TISSUE, chest()))
    with pytest.raises(ScanError, match=r"ct\.nii\.gz"):
        predict(scan, [runs()], tmp_path / "out", scale="HU")
    assert not (tmp_path / "out").exists()


def test_a_run_without_model_is_told_before_the_scan_is_read(tmp_path: Path, runs: Callable[..., Run]) -> None:
    run = runs("b")
    run.onnx.unlink()
    with pytest.raises(RunError, match="covseg export b"):
        predict(tmp_path / "no-such-scan.nii", [runs("a"), run])


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_that_marks_all_or_nothing_is_refused(
    scan: Path, runs: Callable[..., Run], threshold: float
) -> None:
    with pytest.raises(SettingError, match="threshold"):
        predict(scan, [runs()], threshold=threshold)


def test_models_that_cannot_vote_together_are_refused(scan: Path, runs: Callable[..., Run]) -> None:
    with pytest.raises(SettingError, match="0 of them"):
        predict(scan, [])
    with pytest.raises(SettingError, match="a more than once"):
        predict(scan, [runs("a"), runs("b"), runs("a")])
    with pytest.raises(SettingError, match=r"infection \(a\) and lung \(b\)"):
        predict(scan, [runs("a"), runs("b", target="lung")])


def test_a_real_scan(real_data: Path, tmp_path: Path, runs: Callable[..., Run]) -> None:
    """The file's axes run to the left: a mask in canonical order would be mirrored."""
    ct = real_data / "ct20" / "coronacases_006" / "ct.nii.gz"
    models = [
        runs("coarse", grey(-500), prepare=PrepareConfig(128)),
        runs("exact", grey(-500), prepare=PrepareConfig(256)),
    ]
    prediction = predict(ct, models, tmp_path / "out", combine="vote")
    truth = stored(ct) > -500
    np.testing.assert_array_equal(stored(tmp_path / "out" / "mask_exact.nii.gz"), truth)
    coarse = stored(tmp_path / "out" / "mask_coarse.nii.gz") > 0
    assert 2 * np.sum(coarse & truth) / (coarse.sum() + truth.sum()) > 0.9
    np.testing.assert_array_equal(stored(tmp_path / "out" / "mask.nii.gz"), coarse & truth)
    predict(ct, models, tmp_path / "mean")
    mean = stored(tmp_path / "mean" / "mask.nii.gz") > 0
    assert mean[truth].all(), "one of two that is sure is enough for the mean, and the exact one always is"
    assert not mean[~truth & ~coarse].any()
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / "mask.nii.gz").affine, nib.load(ct).affine)
    assert prediction.report.mask.volume_ml is None


# --- probabilities that are kept, and a threshold that is chosen later


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A scan with every grey level, and so probabilities of every size."""
    noise = np.random.default_rng(0).integers(-150, 151, (SIDE, SIDE, SLICES), np.int16)
    return save_scan(tmp_path / "noisy.nii", chest() + noise)


def test_a_threshold_chosen_later_gives_what_a_prediction_with_it_gives(
    tmp_path: Path, noisy: Path, runs: Callable[..., Run]
) -> None:
    """The dashboard keeps probabilities, the command line does not: their masks must be the same, bit for bit."""
    models = [
        runs("a", 50, slope=1 / 200),
        runs("b", 20, slope=1 / 230, prepare=PrepareConfig(32)),
        runs("c", slope=1 / 100),
    ]
    checked = read_scan(noisy)
    answers = ask(checked, models, Spool())
    for threshold in (0.05, 0.3, 0.5, 0.7, 0.95):
        now = predict(noisy, models, tmp_path / "now", threshold)
        later = predict_at(checked, answers, Thresholds(threshold), tmp_path / "later")
        np.testing.assert_array_equal(later.mask, now.mask)
        for run in models:
            np.testing.assert_array_equal(later.mask_of(run.id), now.mask_of(run.id))
        same = {"created": "", "seconds": 0.0, "files": {}}
        assert dataclasses.replace(later.report, **same) == dataclasses.replace(now.report, **same)
        assert now.report.files.keys() == later.report.files.keys()
        for name in (name for name in now.report.files if name.endswith(".nii.gz")):
            np.testing.assert_array_equal(stored(tmp_path / "later" / name), stored(tmp_path / "now" / name))
    assert 0 < now.mask.sum() < predict_at(checked, answers, Thresholds(0.05)).mask.sum(), (
        "the thresholds must make a difference"
    )


def test_probabilities_can_be_kept_on_disk(tmp_path: Path, noisy: Path, runs: Callable[..., Run]) -> None:
    """As the model gave them: those of a long scan take more memory than there is."""
    run, checked = runs("a", 50, slope=1 / 200), read_scan(noisy)
    seen: list[tuple[int, int]] = []
    on_disk = Spool(tmp_path / "answers", in_memory=0)
    [answer] = ask(checked, [run], on_disk, progress=lambda done, total: seen.append((done, total))).models
    [file] = (tmp_path / "answers").iterdir()
    assert isinstance(answer.values, OnDisk) and answer.values.path == file
    [in_memory] = ask(checked, [run], Spool()).models
    np.testing.assert_array_equal(answer.values[0:SLICES], in_memory.values)
    assert seen == [(0, SLICES), (SLICES, SLICES)]
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        ask(checked, [run], on_disk, cancel=cancel)
    assert list((tmp_path / "answers").iterdir()) == [file], "nothing is left of an answer that was given up"


def test_models_of_different_targets_do_not_vote_later_either(noisy: Path, runs: Callable[..., Run]) -> None:
    checked = read_scan(noisy)
    answers = ask(checked, [runs("a"), runs("b", target="lung")], Spool())
    with pytest.raises(SettingError, match=r"infection \(a\) and lung \(b\)"):
        predict_at(checked, answers)
