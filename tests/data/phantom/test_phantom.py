"""Phantoms: a sample to try the tool on, which has to be told apart as real scans are."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from covseg_core.data.classical_lungs import check_chest
from covseg_core.data.phantom.anatomy import draw_lesions, draw_patient, draw_vessels
from covseg_core.data.phantom.phantom import Phantom, make_phantom, write_sample
from covseg_core.data.reading.volumes import grid_mismatch, load_mask, load_scan
from covseg_core.data.slices.intensity import detect_scale
from covseg_core.files import sha256_file


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    """Eight patients with lesions."""
    return [make_phantom(seed, size=96, slices=20) for seed in range(8)]


def test_same_seed_same_scan() -> None:
    """Tests, tutorials and bug reports rely on `--seed`."""
    first, second, other = make_phantom(5, 48, 6), make_phantom(5, 48, 6), make_phantom(6, 48, 6)
    for name in ("ct", "infection", "lung", "spacing"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.ct != other.ct).mean() > 0.5


@pytest.mark.parametrize(("size", "slices"), [(33, 1), (48, 7), (64, 90)])
def test_shapes_are_those_asked_for(size: int, slices: int) -> None:
    """Thin and thick slices, odd sizes: none may fail."""
    phantom = make_phantom(1, size, slices)
    assert phantom.ct.shape == phantom.infection.shape == phantom.lung.shape == (slices, size, size)
    assert (phantom.ct.dtype, phantom.infection.dtype, phantom.lung.dtype) == (np.int16, np.uint8, np.uint8)
    assert phantom.spacing[1] == phantom.spacing[2] == pytest.approx(390 / size, abs=45 / size)


def test_grey_values_are_those_of_a_chest(phantoms: list[Phantom]) -> None:
    """A model of phantoms, and windowing, must see HU as in a real scan."""
    for phantom in phantoms:
        ct, lung = phantom.ct, phantom.lung == 1
        healthy = lung & (phantom.infection == 0)
        assert -1010 < np.median(ct[:, :5, :5]) < -980, "air around the body"
        assert -900 < np.median(ct[healthy]) < -740, "lung"
        assert (np.abs(ct - 50) < 40).mean() > 0.02, "soft tissue"
        assert (ct > 350).mean() > 0.002, "bone"
        assert ct.min() >= -1024
        litres = lung.sum() * np.prod(phantom.spacing) / 1e6
        assert 2.5 < litres < 6.5


def test_lesions_are_ground_glass_and_consolidation_in_the_lung(phantoms: list[Phantom]) -> None:
    """A mask outside the lung or on healthy lung would teach the wrong thing."""
    share = [phantom.infection.sum() / phantom.lung.sum() for phantom in phantoms]
    assert 0.005 < min(share) < 0.1 < max(share) < 0.5
    for phantom in phantoms:
        assert not (phantom.infection & ~phantom.lung & 1).any()
        assert phantom.infection.any((1, 2)).sum() >= 4
        assert (phantom.infection.max((1, 2)) == 0).any(), "slices without lesion"
    values = np.concatenate([phantom.ct[phantom.infection == 1] for phantom in phantoms])
    assert ((values > -700) & (values < -300)).mean() > 0.6
    assert ((values > -100) & (values < 100)).mean() > 0.01


def test_the_healthy_have_no_lesion() -> None:
    """False alarms are measured on them."""
    healthy, ill = (make_phantom(3, 64, 12, lesions=lesions) for lesions in (False, True))
    assert not healthy.infection.any()
    assert ill.infection.any()
    assert np.median(healthy.ct[ill.infection == 1]) < np.median(ill.ct[ill.infection == 1]) - 150


def test_a_threshold_finds_lesions_badly(phantoms: list[Phantom]) -> None:
    """If grey values alone did, the sample would not show what a U-Net is for; if nothing did, nothing could learn."""
    ct = np.concatenate([phantom.ct[phantom.lung == 1] for phantom in phantoms])
    truth = np.concatenate([phantom.infection[phantom.lung == 1] for phantom in phantoms]) == 1
    dice = [2 * (truth & (ct > cut)).sum() / (truth.sum() + (ct > cut).sum()) for cut in range(-850, -200, 25)]
    assert 0.4 < max(dice) < 0.75


def test_patients_differ(phantoms: list[Phantom]) -> None:
    """With one chest for all, a split by patient would leak."""
    overlap = [
        2 * (a.lung & b.lung).sum() / (a.lung.sum() + b.lung.sum())
        for n, a in enumerate(phantoms)
        for b in phantoms[:n]
    ]
    assert np.mean(overlap) < 0.93
    assert len({phantom.spacing for phantom in phantoms}) == len(phantoms)


def test_heart_left_liver_right_front_up(phantoms: list[Phantom]) -> None:
    """A mirrored chest would hide mirrored predictions."""
    for phantom in phantoms:
        x = np.arange(96)
        middle = phantom.lung.any(0).any(0).nonzero()[0].mean()
        volume = phantom.lung.sum((0, 1))
        assert volume[x > middle].sum() > volume[x < middle].sum(), "the heart takes room from the left lung"
        y = np.nonzero(phantom.ct > 350)[1]
        assert y.mean() < 48, "the spine is at the back, the low end of y"
        assert phantom.lung[-1].sum() < phantom.lung[10].sum(), "the lung tapers upwards"


def test_vessels_branch_from_the_hilum_and_grow_thinner() -> None:
    """Vessels are what a threshold takes for lesions: blobs without a tree would not be."""
    random = np.random.default_rng(0)
    patient = draw_patient(random)
    branches = draw_vessels(patient, random)
    start, end, radius = branches[:, :3], branches[:, 3:6], branches[:, 6]
    parents = {tuple(point): r for point, r in zip(end, radius, strict=True)}
    roots = {tuple(point) for point in start} - parents.keys()
    assert len(roots) == 2
    assert all(r <= parents.get(tuple(point), np.inf) for point, r in zip(start, radius, strict=True))
    children = np.unique(start, axis=0, return_counts=True)[1]
    assert (children > 1).mean() > 0.3
    assert patient.in_lung(*end.T).all()


def test_lesions_prefer_the_periphery() -> None:
    """As COVID's do: a model may learn where to look."""
    outward = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        patient = draw_patient(random)
        outward += [patient.depth_in_chest(*lesion.centre) for lesion in draw_lesions(patient, random)]
    assert np.median(outward) > 0.75


def test_a_sample_is_read_as_what_it_is(tmp_path: Path) -> None:
    """Scan and masks on one grid, in HU, a chest: what `covseg data sample` imports."""
    cases = write_sample(tmp_path, scans=4, size=64, slices=16)
    assert [case.name for case in cases] == ["phantom_001", "phantom_002", "phantom_003", "phantom_004"]
    orientations = set()
    for number, case in enumerate(cases):
        scan, infection, lung = (
            load_scan(case / "ct.nii.gz"),
            load_mask(case / "infection_mask.nii.gz"),
            load_mask(case / "lung_mask.nii.gz"),
        )
        phantom = make_phantom(number, 64, 16, lesions=number != 1)
        np.testing.assert_array_equal(scan.voxels, phantom.ct)
        np.testing.assert_array_equal(infection.voxels, phantom.infection)
        np.testing.assert_array_equal(lung.voxels, phantom.lung)
        np.testing.assert_allclose(scan.spacing, phantom.spacing, rtol=1e-6)
        assert grid_mismatch(scan, infection) is None
        assert grid_mismatch(scan, lung) is None
        assert detect_scale(scan.voxels) == "HU"
        assert check_chest(scan.voxels, "HU", case) == ()
        orientations.add(scan.geometry.orientation)
        assert nib.load(case / "ct.nii.gz").header.get_xyzt_units()[0] == "mm"  # type: ignore[attr-defined]
    assert orientations == {"LPS", "LAS"}
    assert [bool(load_mask(case / "infection_mask.nii.gz").voxels.any()) for case in cases] == [True, False, True, True]


def test_a_sample_written_again_is_the_same_bytes(tmp_path: Path) -> None:
    """So that a dataset's fingerprint is, and runs on it can be compared between machines."""
    for name in ("one", "two"):
        write_sample(tmp_path / name, scans=1, size=48, slices=4)
    files = sorted((tmp_path / "one").rglob("*.gz"))
    assert len(files) == 3
    for file in files:
        assert sha256_file(file) == sha256_file(tmp_path / "two" / file.relative_to(tmp_path / "one"))
