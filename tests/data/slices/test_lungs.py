"""Lungs first. What a user loses otherwise: a lesion that is cut away with the lung it lies in, or one in a rib."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.reading.volumes import load_mask
from covseg_core.data.slices import lungs as lungs_module
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.lungs import (
    MARGIN,
    REACH,
    case_box,
    case_lungs,
    keep_lungs,
    known_lungs,
    lung_box,
    near_lungs,
)
from covseg_core.data.slices.slices import Box, Grid, to_images, to_masks, to_native
from covseg_core.errors import CovsegError, DatasetError, SettingError

LUNGS_ONLY = PrepareConfig(size=32, region="lungs")


@st.composite
def boxed(draw: st.DrawFn) -> Grid:
    """A grid of any shape, spacing and box."""
    shape = draw(st.tuples(st.integers(8, 60), st.integers(8, 60)))
    spacing = draw(st.tuples(st.floats(0.4, 2.5), st.floats(0.4, 2.5)))
    ends = []
    for length in shape:
        start = draw(st.integers(0, length - 4))
        ends.append((start, draw(st.integers(start + 4, length))))
    return Grid(shape, spacing, draw(st.sampled_from([16, 32, 48])), "area", Box(*ends))


def pads(grid: Grid) -> list[tuple[int, int]]:
    """Pixels in front of and behind the rows and columns of the box that make it a physical square."""
    assert grid.box is not None
    lengths = [end - start for start, end in (grid.box.rows, grid.box.columns)]
    side = max(length * size for length, size in zip(lengths, grid.spacing, strict=True))
    missing = [max(0, round(side / size) - length) for length, size in zip(lengths, grid.spacing, strict=True)]
    return [(many // 2, many - many // 2) for many in missing]


@settings(deadline=None)
@given(grid=boxed(), seed=st.integers(0, 2**16))
def test_a_mask_in_the_box_is_cut_turned_padded_and_sampled(grid: Grid, seed: int) -> None:
    """Against the obvious way, a pixel at a time."""
    mask = (np.random.default_rng(seed).random((2, *grid.shape)) < 0.4).astype(np.uint8)
    assert grid.box is not None
    square = np.pad(mask[0][grid.box.part][::-1, ::-1], pads(grid))
    expected = np.zeros((grid.size, grid.size), np.uint8)
    for row in range(grid.size):
        for column in range(grid.size):
            y, x = (
                int(np.floor((place + 0.5) * length / grid.size))
                for place, length in zip((row, column), square.shape, strict=True)
            )
            expected[row, column] = square[y, x]
    np.testing.assert_array_equal(to_masks(mask, grid)[0], expected)


@settings(deadline=None, max_examples=25)
@given(grid=boxed(), seed=st.integers(0, 2**16))
def test_probabilities_land_in_the_box_and_nowhere_else(grid: Grid, seed: int) -> None:
    """Each native pixel against the slice's four around it, a pixel at a time; OpenCV takes 32nds of a pixel."""
    given_ = np.random.default_rng(seed).random((2, grid.size, grid.size), np.float32)
    given_[1] = 0
    found = to_native(given_, grid)
    assert grid.box is not None
    (rows, columns), (above, left) = grid.box.part, (pad[0] for pad in pads(grid))
    lengths = [part.stop - part.start + sum(pad) for part, pad in zip(grid.box.part, pads(grid), strict=True)]
    outside = np.ones(grid.shape, bool)
    outside[grid.box.part] = False
    assert not found[:, outside].any() and not found[1].any()
    last = grid.size - 1
    for y in range(rows.start, rows.stop):
        for x in range(columns.start, columns.stop):
            # counted from the other end, in radiological view
            v = np.clip((rows.stop - 1 - y + above + 0.5) * grid.size / lengths[0] - 0.5, 0, last)
            u = np.clip((columns.stop - 1 - x + left + 0.5) * grid.size / lengths[1] - 0.5, 0, last)
            v0, u0 = min(int(v), last - 1), min(int(u), last - 1)
            upper, lower = (row[u0] + (row[u0 + 1] - row[u0]) * (u - u0) for row in given_[0, v0 : v0 + 2])
            assert found[0, y, x] == pytest.approx(upper + (lower - upper) * (v - v0), abs=0.07)


@settings(deadline=None)
@given(grid=boxed(), seed=st.integers(0, 2**16))
def test_a_box_is_as_good_as_a_scan_that_was_cut_before(grid: Grid, seed: int) -> None:
    assert grid.box is not None
    planes = np.random.default_rng(seed).integers(0, 256, (2, *grid.shape), dtype=np.uint8)
    cut = planes[:, *grid.box.part]
    alone = Grid(cut.shape[1:], grid.spacing, grid.size, "area")
    np.testing.assert_array_equal(to_images(planes, grid), to_images(cut, alone))
    slices = np.random.default_rng(seed).random((1, grid.size, grid.size), np.float32)
    np.testing.assert_array_equal(to_native(slices, grid)[:, *grid.box.part], to_native(slices, alone))


@settings(deadline=None)
@given(grid=boxed(), data=st.data())
def test_a_lesion_in_the_box_comes_back_to_where_it_was(grid: Grid, data: st.DataObject) -> None:
    """There and back, it has moved by less than a pixel of the slice."""
    assert grid.box is not None
    lesion = np.zeros((1, *grid.shape), np.uint8)
    pixel = [max(1.0, length / grid.size) for length in (axis.padded for axis in grid.axes)]
    ends = []
    for (start, end), coarse in zip((grid.box.rows, grid.box.columns), pixel, strict=True):
        least = int(np.ceil(2 * coarse))
        assume(end - start > least)
        first = data.draw(st.integers(start, end - least))
        ends.append(slice(first, first + least))
    lesion[0][tuple(ends)] = 1
    back = to_native(to_masks(lesion, grid).astype(np.float32), grid) >= 0.5
    assert back.any()
    for axis, coarse in enumerate(pixel, start=1):
        before, after = (np.argwhere(mask)[:, axis].mean() for mask in (lesion, back))
        assert abs(after - before) <= coarse


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(5, 60), st.integers(5, 60)),
    spacing=st.tuples(st.floats(0.4, 2.5), st.floats(0.4, 2.5)),
    data=st.data(),
)
def test_the_box_holds_all_lungs_and_their_rim_inside_the_plane(
    shape: tuple[int, int, int], spacing: tuple[float, float], data: st.DataObject
) -> None:
    voxels = data.draw(st.lists(st.tuples(*(st.integers(0, length - 1) for length in shape)), min_size=1, max_size=5))
    lungs = np.zeros(shape, np.uint8)
    lungs[tuple(np.transpose(voxels))] = 2
    box = lung_box(lungs, spacing)
    assert box is not None
    places = [[voxel[axis] for voxel in voxels] for axis in (1, 2)]
    longest = max((max(at) - min(at) + 1) * size for at, size in zip(places, spacing, strict=True))
    for (start, end), at, size, length in zip((box.rows, box.columns), places, spacing, shape[1:], strict=True):
        assert 0 <= start <= min(at) and max(at) < end <= length
        for rim, cut in ((min(at) - start, start == 0), (end - 1 - max(at), end == length)):
            assert cut or rim * size == pytest.approx(MARGIN * longest, abs=size / 2 + 1e-6)


def test_without_lungs_there_is_no_box() -> None:
    assert lung_box(np.zeros((3, 8, 8), np.uint8), (1.0, 1.0)) is None


def test_near_the_lungs_is_all_of_them_and_a_little_more() -> None:
    """Holes count, too: models leave consolidated parts out of the lung. The slice without lungs is empty."""
    lungs = np.zeros((3, 100, 100), np.uint8)
    lungs[0, 20:80, 10:90] = 1
    lungs[0, 40:44, 50:54] = 0  # a hole
    lungs[2, 50, 50] = 1
    box = lung_box(lungs, (1.0, 1.0))
    grid = Grid((100, 100), (1.0, 1.0), 100, "area", box)
    near, there = near_lungs(lungs, grid), to_masks(lungs, grid)
    reach = round(REACH * 100)
    assert (near >= there).all()
    assert not near[1].any()
    rows, columns = np.nonzero(there[0])
    found = np.nonzero(near[0])
    for lung, wide in zip((rows, columns), found, strict=True):
        assert reach - 1 <= lung.min() - wide.min() <= reach + 1
        assert reach - 1 <= wide.max() - lung.max() <= reach + 1
    assert near[0, rows.min() : rows.max(), columns.min() : columns.max()].all(), "the hole is filled"


# --- of cases


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(2)


def without_mask(case: Case) -> Case:
    return replace(case, lung=None, sha256={role: sha for role, sha in case.sha256.items() if role != "lung"})


def test_the_box_of_a_case_is_that_of_its_lung_mask(dataset: Dataset) -> None:
    case = dataset.cases[0]
    mask = load_mask(dataset.path(case, "lung")).voxels
    assert known_lungs(case)
    np.testing.assert_array_equal(case_lungs(dataset, case), mask)
    assert case_box(dataset, case) == lung_box(mask, case.spacing[1:])


def test_slices_are_cut_to_the_box_and_filed_apart_from_whole_ones(dataset: Dataset) -> None:
    case, whole = dataset.cases[0], PrepareConfig(size=32)
    assert case_grid(dataset, case, whole).box is None
    grid = case_grid(dataset, case, LUNGS_ONLY)
    truth = load_mask(dataset.path(case, "infection")).voxels
    np.testing.assert_array_equal(prepared(dataset, case, LUNGS_ONLY, "infection"), to_masks(truth, grid))
    assert prepared(dataset, case, whole, "infection").sum() < prepared(dataset, case, LUNGS_ONLY, "infection").sum()
    near = prepared(dataset, case, LUNGS_ONLY, "near_lungs")
    np.testing.assert_array_equal(near, near_lungs(case_lungs(dataset, case), grid))
    lost = prepared(dataset, case, LUNGS_ONLY, "infection") & ~near & 1
    assert not lost.any(), "the phantoms' lesions lie in their lungs"


def test_lungs_that_a_model_found_are_kept(dataset: Dataset) -> None:
    case = without_mask(dataset.cases[0])
    assert not known_lungs(case)
    with pytest.raises(DatasetError) as error:
        case_box(dataset, case)
    assert (
        str(error.value) == f"phantoms/{case.id}: nothing is known of its lungs; expected a lung mask, or a lung model"
    )
    lungs = np.zeros(case.shape, np.uint8)
    lungs[1:, 10:30, 5:41] = 1
    keep_lungs(case, lungs)
    assert known_lungs(case)
    np.testing.assert_array_equal(case_lungs(dataset, case), lungs)
    assert case_box(dataset, case) == lung_box(lungs, case.spacing[1:])
    lungs[0, 2, 2] = 1
    keep_lungs(case, lungs)
    assert case_box(dataset, case) == lung_box(lungs, case.spacing[1:]), "and those that replace them"


def test_a_case_without_lungs_is_refused_in_one_line(dataset: Dataset) -> None:
    case = without_mask(dataset.cases[0])
    keep_lungs(case, np.zeros(case.shape, np.uint8))
    with pytest.raises(DatasetError) as error:
        prepared(dataset, case, LUNGS_ONLY, "images")
    expected = f"phantoms/{case.id}: no lungs in it; expected a scan of the lungs for `region = lungs`"
    assert str(error.value) == expected
    assert prepared(dataset, case, PrepareConfig(size=32), "images").any(), "as a whole it can be used"


def test_a_cache_without_room_is_said_in_one_line(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lungs_module.np, "savez", full)
    with pytest.raises(CovsegError, match=r"cannot write the slice cache \(No space left on device\); expected room"):
        case_box(dataset, dataset.cases[0])


def test_damaged_lungs_in_the_cache_are_made_again(dataset: Dataset) -> None:
    """An entry of the cache can be lost in part, after a power cut; slices are then built again, and so are these."""
    case = dataset.cases[0]
    expected = case_box(dataset, case)
    path = lungs_module._path(case)
    path.write_bytes(path.read_bytes()[:200])
    assert case_box(dataset, case) == expected
    shutil.rmtree(path.parent)
    assert case_box(dataset, case) == expected


def test_a_lung_mask_that_was_changed_or_is_gone_is_not_believed(dataset: Dataset) -> None:
    """Its lungs are filed under the mask that was imported."""
    case = dataset.cases[0]
    path = dataset.path(case, "lung")
    content = path.read_bytes()
    path.write_bytes(content + b"more")
    with pytest.raises(
        DatasetError, match=r"has changed since it was imported; expected the lung of case phantom_001 "
    ):
        case_box(dataset, case)
    path.unlink()
    with pytest.raises(DatasetError, match=r"no such file; expected the lung of case phantom_001 as imported"):
        case_lungs(dataset, case)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            lambda: PrepareConfig(resize="thesis", region="lungs"),
            "`slice` with the thesis's resize, which knows no box",
        ),
        (
            lambda: RunConfig("r", "e", "d", "f", "dice", "quick", "2026-01-01", target="lung", prepare=LUNGS_ONLY),
            "`slice` for a model that looks for the lungs itself",
        ),
    ],
)
def test_lungs_first_is_refused_where_it_makes_no_sense(config: Callable[[], object], says: str) -> None:
    with pytest.raises(SettingError) as error:
        config()
    assert str(error.value) == f"region: 'lungs'; expected {says}"
