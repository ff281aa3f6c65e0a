"""Slices in memory: right pairs of image and mask, in the order asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from covseg_core.config import PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.slices.cache import prepared
from covseg_core.data.slices.slice_set import load_slices, mean_std
from covseg_core.data.splitting.split import PARTS, make_split
from covseg_core.errors import DatasetError

PREPARE = PrepareConfig(size=32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return import_dataset("sample", write_sample(tmp_path / "sample", scans=3, size=48, slices=12), allow_empty=True)


def test_each_slice_comes_with_its_own_mask_and_origin(dataset: Dataset) -> None:
    """An image beside another slice's mask teaches noise, and no score would say so."""
    selection = {"phantom_003": (7, 2, 5), "phantom_001": (0, 11)}
    for target in ("infection", "lung"):
        loaded = load_slices(dataset, selection, PREPARE, target)  # type: ignore[arg-type]
        assert loaded.cases == ("phantom_003",) * 3 + ("phantom_001",) * 2
        assert loaded.z.tolist() == [7, 2, 5, 0, 11]
        assert len(loaded) == 5
        for n, (case_id, z) in enumerate(zip(loaded.cases, loaded.z, strict=True)):
            case = dataset.case(case_id)
            np.testing.assert_array_equal(loaded.images[n], prepared(dataset, case, PREPARE, "images")[z])
            np.testing.assert_array_equal(loaded.masks[n], prepared(dataset, case, PREPARE, target)[z])  # type: ignore[arg-type]


def test_the_parts_of_a_split_hold_the_whole_dataset(dataset: Dataset) -> None:
    """From files to training arrays, nothing is lost: positive slices are where the masks have voxels."""
    split = make_split(dataset, SplitConfig())
    parts = [load_slices(dataset, split.part(part), PREPARE, "lung") for part in PARTS]
    assert sum(len(part) for part in parts) == 36
    for part in parts:
        for image, mask, case_id, z in zip(part.images, part.masks, part.cases, part.z, strict=True):
            voxels = (dataset.case(case_id).lung_voxels or ())[z]
            assert mask.any() <= (voxels > 0)
            if voxels > 200:
                assert image[mask == 1].mean() < image[mask == 0].max() - 50, "lung is dark"


def test_slices_are_a_copy_in_memory(dataset: Dataset) -> None:
    """Training must not read from disk at every epoch, nor crash if the cache is cleared."""
    loaded = load_slices(dataset, {"phantom_001": (3,)}, PREPARE)
    assert not isinstance(loaded.images, np.memmap)
    assert loaded.images.flags.writeable
    assert loaded.images.dtype == loaded.masks.dtype == np.uint8


def test_nothing_selected_is_an_empty_set(dataset: Dataset) -> None:
    """A filter that leaves nothing must not crash before it can be reported."""
    loaded = load_slices(dataset, {"phantom_001": ()}, PREPARE)
    assert (len(loaded), loaded.images.shape, loaded.z.shape) == (0, (0, 32, 32), (0,))


@pytest.mark.parametrize(
    ("selection", "says"),
    [({"gone": (0,)}, "no case 'gone'"), ({"phantom_001": (3, 12)}, "12"), ({"phantom_001": (-1,)}, "-1")],
)
def test_a_selection_from_another_dataset_is_refused(
    dataset: Dataset, selection: dict[str, tuple[int, ...]], says: str
) -> None:
    """A negative or too large index would silently be another slice, or a traceback."""
    with pytest.raises(DatasetError, match=says):
        load_slices(dataset, selection, PREPARE)


@settings(deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9)))
def test_mean_and_deviation_equal_numpys(images: np.ndarray) -> None:
    """They are baked into the model: a wrong one shifts every prediction."""
    assert mean_std(images) == pytest.approx((images.mean(dtype=np.float64), images.std(dtype=np.float64)), abs=1e-9)


def test_mean_and_deviation_do_not_overflow() -> None:
    """3,000 slices of 512 x 512 white pixels add up to more than 32 bits hold; a strided view stands for them."""
    images = np.broadcast_to(np.full((1, 512, 512), 255, np.uint8), (300, 512, 512))
    assert mean_std(images) == (255.0, 0.0)
