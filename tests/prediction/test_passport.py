"""Passport and training data. What a user loses otherwise: a scan that the model cannot know, taken without a word."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from covseg_core.config import PrepareConfig, Region, RunConfig
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.slices.appearance import look_at
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.data.splitting.split import Split, SplitConfig
from covseg_core.errors import DatasetError
from covseg_core.files import read_json, write_json
from covseg_core.prediction.passport import unlike, unusual
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.runs import Run
from covseg_core.runs.training_data import FILE, Range, TrainingData, read_training_data, write_training_data

SIDE, SLICES = 128, 12


def chest(lung: int = -850, tissue: int = 40, margin: int = 24) -> np.ndarray:
    """(x, y, z) int16 HU: a body with two lungs in noisy air; lungs in the middle slices only."""
    noise = np.random.default_rng(0).integers(-20, 21, (SIDE, SIDE, SLICES))
    voxels = np.full((SIDE, SIDE, SLICES), -1000)
    voxels[margin : SIDE - margin, margin : SIDE - margin] = tissue
    voxels[margin + 8 : 60, 40:88, 2:10] = voxels[68 : SIDE - margin - 8, 40:88, 2:10] = lung
    return (voxels + noise).astype(np.int16)


def wide() -> np.ndarray:
    """The same with more air around, as with the full field of view."""
    noise = np.random.default_rng(1).integers(-20, 21, (SIDE + 80, SIDE + 80, SLICES))
    voxels = (noise - 1000).astype(np.int16)
    voxels[40:-40, 40:-40] = chest()
    return voxels


def save(folder: Path, voxels: np.ndarray, spacing=(0.8, 0.8, 5.0)) -> Scan:
    nib.save(nib.Nifti1Image(voxels, np.diag([*spacing, 1.0])), folder / "doe_jane.nii")
    return read_scan(folder / "doe_jane.nii")


def make_run(root: Path, id: str = "a", data: TrainingData | None = None, region: Region = "slice") -> Run:
    run = Run(root / id)
    prepare = PrepareConfig(region=region)
    config = RunConfig(id, "e", "none", "f", "dice", "quick", "2026-01-01", prepare=prepare)
    write_json(run.folder / "config.json", config)
    if data:
        write_json(run.folder / FILE, data)
    return run


@pytest.fixture
def like(tmp_path: Path) -> TrainingData:
    """Of training scans that look as `chest()` does."""
    look = save(tmp_path, chest()).passport.appearance
    assert look.lung_grey is not None
    assert look.tissue_grey is not None
    return TrainingData(
        scans=4, patients=3, slices=40, scales={"HU": 4}, spacing_known=2,
        slice_mm=Range(1, 6), pixel_mm=Range(0.6, 0.9), rows=Range(128, 512), slices_per_scan=Range(10, 300),
        lung_grey=Range(look.lung_grey - 3, look.lung_grey + 3), tissue_grey=Range(look.tissue_grey, look.tissue_grey),
        body_share=Range(look.body_share, look.body_share), padding_share=Range(0, 0.1),
    )  # fmt: skip


def test_the_passport_says_what_the_scan_is(tmp_path: Path) -> None:
    passport = save(tmp_path, chest()).passport
    assert (passport.kind, passport.plane, passport.orientation, passport.scale) == ("nifti", "axial", "RAS", "HU")
    assert passport.matrix == (SIDE, SIDE, SLICES)
    assert passport.spacing_mm == pytest.approx((0.8, 0.8, 5.0))
    assert passport.extent_mm == pytest.approx((0.8 * SIDE, 0.8 * SIDE, 60))
    assert passport.lung_slices == 8
    assert (passport.begins_in_lung, passport.ends_in_lung, passport.notes) == (False, False, ())
    look = passport.appearance
    assert look.lung_grey == pytest.approx(68, abs=5), "-850 HU in the window -1250..250"
    assert look.tissue_grey == pytest.approx(219, abs=5)
    assert look.body_share == pytest.approx((80 / 128) ** 2, abs=0.03)
    assert look.padding_share < 0.01


@pytest.mark.parametrize(("cut", "words"), [((2, 12), "lowest"), ((0, 10), "highest"), ((2, 10), "lowest and the hi")])
def test_lungs_that_are_cut_off_are_told(tmp_path: Path, cut: tuple[int, int], words: str) -> None:
    """Else the volume of half a lung is taken for that of the whole."""
    [note] = save(tmp_path, chest()[..., slice(*cut)]).passport.notes
    assert words in note


def test_an_unknown_spacing_has_no_millimetres(tmp_path: Path) -> None:
    passport = save(tmp_path, chest(), (1.0, 1.0, 1.0)).passport
    assert (passport.spacing_mm, passport.extent_mm) == (None, None)


def test_coronal_slices_are_called_so(tmp_path: Path) -> None:
    """Stored front to back; the core turns them."""
    affine = np.array([[0.8, 0, 0, 0], [0, 0, 0.8, 0], [0, 5.0, 0, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(chest().transpose(0, 2, 1), affine), tmp_path / "ct.nii")
    passport = read_scan(tmp_path / "ct.nii").passport
    assert (passport.plane, passport.matrix) == ("coronal", (SIDE, SIDE, SLICES))


def test_padding_is_told_from_air(tmp_path: Path) -> None:
    padded = chest()
    padded[:32] = -2000
    look = save(tmp_path, padded).passport.appearance
    assert look.padding_share == pytest.approx(0.25, abs=0.01)
    assert look.body_share == pytest.approx(80 * 72 / (128 * 96), abs=0.04), "of what is not padding"


def test_a_scan_like_the_training_data_is_not_unusual(tmp_path: Path, like: TrainingData) -> None:
    passport = save(tmp_path, chest()).passport
    assert unusual(passport, make_run(tmp_path, data=like)) == []
    assert unusual(passport, make_run(tmp_path, "unknown")) == []


def test_what_is_unlike_the_training_data_is_told(tmp_path: Path, like: TrainingData) -> None:
    run = make_run(tmp_path, data=like)

    def lines(voxels: np.ndarray, spacing=(0.8, 0.8, 5.0)) -> str:
        return " ".join(unusual(save(tmp_path, voxels, spacing).passport, run))

    assert "slices 10 mm apart, in training 1 to 6 mm" in lines(chest(), (0.8, 0.8, 10.0))
    assert "pixels 2 mm apart" in lines(chest(), (2.0, 2.0, 5.0))
    assert "lungs brighter" in lines(chest(lung=-620))
    assert "tissue darker" in lines(chest(tissue=-120))
    assert "larger field of view" in lines(wide())
    grey = to_uint8(np.ascontiguousarray(chest()), "HU").astype(np.int16)
    assert "its values are 0-255, all training scans are HU" in lines(grey)


def test_the_field_of_view_is_nothing_to_a_model_of_the_lungs_region(tmp_path: Path, like: TrainingData) -> None:
    passport = save(tmp_path, wide()).passport
    assert any("field of view" in line for line in unusual(passport, make_run(tmp_path, "plain", like)))
    lungs = make_run(tmp_path, "lungs", like, region="lungs")
    assert not any("field of view" in line for line in unusual(passport, lungs))


def test_several_models_of_the_same_data_make_one_warning() -> None:
    warnings = unlike({"a": ["x", "y"], "b": ["x"], "c": []})
    assert warnings == ["unlike the training data of a and b: x", "unlike the training data of a: y"]


def test_slices_without_lung_are_looked_at_without_an_error() -> None:
    look = look_at(np.full((3, 64, 64), 219, np.uint8))
    assert (look.lung_grey, look.body_share) == (None, 0.0)


def trained(root: Path, dataset: str) -> Run:
    """A run whose training part is two cases of the data set."""
    run = Run(root / "a")
    cases = load_dataset(dataset).cases
    config = RunConfig("a", "e", dataset, "f", "dice", "quick", "2026-01-01", prepare=PrepareConfig(64))
    write_json(run.folder / "config.json", config)
    train = {cases[0].id: tuple(range(cases[0].slices)), cases[1].id: (2, 3), cases[2].id: ()}
    write_json(run.folder / "split.json", Split(SplitConfig(), train, {cases[3].id: (0,)}, {}))
    return run


def test_training_data_are_those_of_the_training_part(tmp_path: Path, phantoms: str) -> None:
    run, cases = trained(tmp_path, phantoms), load_dataset(phantoms).cases
    data = write_training_data(run)
    assert data == read_json(run.folder / FILE, TrainingData) == read_training_data(run)
    assert (data.scans, data.slices, data.scales) == (2, cases[0].slices + 2, {"HU": 2})
    assert data.patients == len({case.patient for case in cases[:2]})
    assert data.rows == Range(*sorted((cases[0].shape[1], cases[1].shape[1])))
    learned = {*run.split.train, *run.split.validation}
    assert set(data.scan_sha256) == {case.sha256["scan"] for case in cases if case.id in learned}
    text = (run.folder / FILE).read_text()
    assert not any(case.id in text or case.patient in text for case in cases), "shipped models carry this file"


def test_a_resumed_run_keeps_what_it_has(tmp_path: Path, phantoms: str) -> None:
    run = trained(tmp_path, phantoms)
    first = dataclasses.replace(write_training_data(run), scans=99)
    write_json(run.folder / FILE, first)
    assert write_training_data(run) == first


def test_a_run_whose_data_set_is_gone_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_json(run.folder / "split.json", Split(SplitConfig(), {"c": (0,)}, {}, {}))
    with pytest.raises(DatasetError, match="none"):
        write_training_data(run)
