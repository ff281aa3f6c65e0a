"""The classical lung mask. What a user loses otherwise: a scan of the abdomen gets an infection mask, or a chest is
turned away; and the baselines that a model is held against are weaker than they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covseg_core.data.classical_lungs import check_chest, lung_mask, lung_shares
from covseg_core.data.phantom.phantom import make_phantom
from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.slices.intensity import Scale, detect_scale, to_uint8
from covseg_core.errors import ScanError
from covseg_core.evaluation.measures import count, overlap

AIR, FAT, TISSUE, LUNG = -1000, -90, 50, -850


def ellipse(size: int, y: float, x: float, height: float, width: float) -> np.ndarray:
    """(size, size) bool; centre and semi-axes as shares of the side."""
    rows, columns = (np.arange(size)[:, None] / size - y) / height, (np.arange(size) / size - x) / width
    return rows**2 + columns**2 <= 1


def body(size: int = 128, slices: int = 4) -> np.ndarray:
    """(Z, Y, X) int16 [HU]: a body with a rim of fat in air, on a table of foam in a thin shell."""
    plane = np.full((size, size), AIR, np.int16)
    table = ellipse(size, 0.02, 0.5, 0.12, 0.45)
    plane[table] = TISSUE
    plane[ellipse(size, 0.02, 0.5, 0.1, 0.43)] = -920
    plane[ellipse(size, 0.5, 0.5, 0.34, 0.44)] = FAT
    plane[ellipse(size, 0.5, 0.5, 0.31, 0.41)] = TISSUE
    return np.repeat(plane[None], slices, 0)


def lungs(size: int = 128) -> np.ndarray:
    return ellipse(size, 0.5, 0.3, 0.22, 0.13) | ellipse(size, 0.5, 0.7, 0.22, 0.13)


def with_noise(volume: np.ndarray, seed: int = 0) -> np.ndarray:
    return (volume + np.random.default_rng(seed).normal(0, 20, volume.shape)).astype(np.int16)


def chest() -> tuple[np.ndarray, np.ndarray]:
    volume = body()
    volume[:, lungs()] = LUNG
    return with_noise(volume), np.repeat(lungs()[None], len(volume), 0)


def abdomen() -> np.ndarray:
    """No lungs, but gas in the stomach and stool in the colon."""
    volume = body()
    volume[:, ellipse(128, 0.6, 0.65, 0.1, 0.08)] = AIR
    volume[:, ellipse(128, 0.6, 0.25, 0.04, 0.04)] = -500
    return with_noise(volume)


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    return overlap(count(truth, prediction))["dice"]


@pytest.mark.parametrize("scale", ["HU", "0-255"])
def test_lungs_are_found_and_neither_the_table_nor_the_air_around(scale: Scale) -> None:
    volume, truth = chest()
    volume = volume if scale == "HU" else to_uint8(volume, "HU")
    assert dice(truth, lung_mask(volume, scale)) > 0.97
    assert check_chest(volume, scale, "ct.nii") == ()


def test_lungs_are_found_in_a_round_field_of_view_with_padding() -> None:
    volume, truth = chest()
    volume[:, ~ellipse(128, 0.5, 0.5, 0.5, 0.5)] = -3024
    assert dice(truth, lung_mask(volume, "HU")) > 0.97


def test_lungs_are_found_in_slices_cropped_to_them() -> None:
    volume, truth = chest()
    rows, columns = (np.flatnonzero(truth[0].any(axis)) for axis in (1, 0))
    inside = np.zeros_like(truth[0])
    inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    volume[:, ~inside] = -1024
    assert dice(truth, lung_mask(volume, "HU")) > 0.95
    assert check_chest(volume, "HU", "ct.nii") == ()


def test_vessels_and_enclosed_lesions_belong_to_the_lung() -> None:
    volume, truth = chest()
    volume[:, ellipse(128, 0.5, 0.3, 0.06, 0.04)] = -50
    assert dice(truth, lung_mask(volume, "HU")) > 0.97


def test_a_mask_of_a_large_scan_lies_where_the_lungs_do() -> None:
    volume, truth = chest()
    volume, truth = (np.repeat(np.repeat(array[:1], 4, 1), 4, 2) for array in (volume, truth))
    assert dice(truth, lung_mask(volume, "HU")) > 0.96, "reducing and enlarging must not shift it"


def test_an_abdomen_is_refused_with_what_was_found() -> None:
    for volume, scale in ((abdomen(), "HU"), (with_noise(body()), "HU"), (to_uint8(with_noise(body()), "HU"), "0-255")):
        with pytest.raises(
            ScanError, match=r"^belly\.nii: no lungs found .* % of the body.*; expected a CT of the chest"
        ):
            check_chest(volume, scale, "belly.nii")


def test_lung_bases_on_top_of_an_abdomen_are_taken_with_a_warning() -> None:
    volume = abdomen()
    bases = ellipse(128, 0.4, 0.3, 0.07, 0.1) | ellipse(128, 0.4, 0.7, 0.07, 0.1)
    volume[-1:, bases] = LUNG
    (warning,) = check_chest(volume, "HU", "ct.nii")
    assert "only a part of the lungs" in warning


def test_slices_without_anything_in_them_are_no_lungs() -> None:
    assert not lung_shares(np.zeros((2, 32, 32), np.uint8), "0-255").any()
    assert not lung_mask(np.full((2, 32, 32), 40, np.int16), "HU").any()


def test_a_long_scan_is_judged_by_its_few_slices_of_lung_too() -> None:
    volume, _ = chest()
    long = np.concatenate([np.repeat(abdomen()[:1], 290, 0), np.repeat(volume[:1], 10, 0)])
    assert check_chest(long, "HU", "ct.nii") == ()


def test_phantoms_pass_for_chests() -> None:
    phantom = make_phantom(seed=3, size=96, slices=12)
    assert check_chest(phantom.ct, "HU", "ct.nii") == ()


def test_real_lungs(real_data: Path) -> None:
    """Measured: mean Dice 0.96 over the scans, lowest 0.85 in the one whose lungs are infected to a third."""
    found = []
    for folder in sorted((real_data / "ct20").iterdir()):
        scan = load_scan(folder / "ct.nii.gz")
        scale = detect_scale(scan.voxels)
        assert check_chest(scan.voxels, scale, folder) == (), folder
        every = slice(None, None, max(1, len(scan.voxels) // 12))
        truth = load_mask(folder / "lung_mask.nii.gz", like=scan.geometry).voxels[every]
        found.append(dice(truth, lung_mask(scan.voxels[every], scale)))
    assert len(found) == 12
    assert np.mean(found) > 0.95
    assert min(found) > 0.82


def test_real_scans_that_are_not_as_the_public_set(real_data: Path) -> None:
    stacked = load_scan(real_data / "medseg" / "tr_im.nii.gz").voxels
    assert check_chest(stacked, "0-255", "tr_im.nii.gz") == ()
    torso = load_scan(real_data / "totalseg_torso_3mm.nii.gz").voxels
    (warning,) = check_chest(torso, "HU", "torso")
    assert "only a part of the lungs" in warning
    below = torso[: int(0.8 * len(torso))]
    with pytest.raises(ScanError, match="no lungs"):
        check_chest(below, "HU", "torso")
