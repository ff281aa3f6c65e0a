"""What the volume viewer is told: the masks of the slices, bit by bit, and no more of the session than needed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from covseg_core import rendering
from dashboard.components import slice_viewer, volume_viewer
from dashboard.components.slice_viewer import Layer, Scene
from dashboard.components.volume_viewer import Mask, VolumeScene
from dashboard.services import volume_server
from dashboard.services.volume_server import Volume

SHAPE = (4, 5, 6)
CT = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
TRUTH = CT > 500
LUNGS = CT < -200
MODEL = np.random.default_rng(1).random(SHAPE).astype(np.float32)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, Volume]]:
    """Key and volume by place."""
    found: dict[str, tuple[Any, Volume]] = {}

    def offer(place: str, key: Any, volume: Volume) -> str:
        found[place] = key, volume
        return f"/{place}"

    monkeypatch.setattr(volume_server, "offer", offer)
    return found


def scene(**more: Any) -> Scene:
    def plane(voxels: np.ndarray) -> slice_viewer.Plane:
        return lambda z: voxels[z, ::-1, ::-1]

    values: dict[str, Any] = {
        "id": "scan",
        "zs": range(len(CT)),
        "scale": "HU",
        "spacing": (0.7, 0.8),
        "ct": plane(CT),
        "truth": plane(TRUTH),
        "layers": [Layer("Mean of 2", plane(MODEL), together=True), Layer("Dice", plane(MODEL))],
        "outline": plane(LUNGS),
        "thickness": 2.5,
    }
    return Scene(**values | more)


def whole(volume: Volume) -> np.ndarray:
    return np.stack([volume.plane(z) for z in range(volume.shape[0])])


def test_scan_and_masks_are_those_of_the_slices_in_one_orientation(offered: dict[str, tuple[Any, Volume]]) -> None:
    """Pictures are turned for radiologists; NiiVue turns the planes itself, and twice would be wrong."""
    told = volume_viewer._data(slice_viewer._volume(scene(), 0.3, 2), "key")
    scan, masks = whole(offered["key-scan"][1]), whole(offered["key-masks"][1])
    assert np.array_equal(scan, CT)
    assert [(mask["name"], mask["kind"]) for mask in told["names"]] == [
        ("Lungs", "lungs"), ("True mask", "truth"), ("Mean of 2", "together"), ("Dice", "model")
    ]  # fmt: skip
    for place, expected in enumerate((LUNGS, TRUTH, MODEL >= 0.3, MODEL >= 0.3)):
        assert np.array_equal(masks >> place & 1, expected), place
    assert masks.dtype == np.uint8
    assert told["spacing"] == [2.5, 0.7, 0.8]
    assert (told["start"], told["first"], told["slices"], told["measured"]) == (2, 0, 4, True)
    assert told["windows"][0] == ["Lung", *rendering.WINDOWS["lung"]]
    json.dumps(told)


def test_a_known_mask_is_taken_instead_of_probabilities(offered: dict[str, tuple[Any, Volume]]) -> None:
    """It lacks what was left out as too small or beyond the chest."""
    layer = Layer("Dice", lambda z: MODEL[z], mask=lambda z: TRUTH[z, ::-1, ::-1])
    volume_viewer._data(slice_viewer._volume(scene(layers=[layer], outline=None, truth=None), 0.0, 0), "key")
    assert np.array_equal(whole(offered["key-masks"][1]), TRUTH)


def test_a_moved_threshold_sends_the_masks_again_and_not_the_scan(offered: dict[str, tuple[Any, Volume]]) -> None:
    volume_viewer._data(slice_viewer._volume(scene(), 0.3, 2), "key")
    scan, masks = offered["key-scan"][0], offered["key-masks"][0]
    volume_viewer._data(slice_viewer._volume(scene(), 0.4, 3), "key")
    assert offered["key-scan"][0] == scan
    assert offered["key-masks"][0] != masks
    volume_viewer._data(slice_viewer._volume(scene(edition="another version"), 0.4, 3), "key")
    assert offered["key-scan"][0] != scan
    volume_viewer._data(slice_viewer._volume(scene(marked="other models"), 0.4, 3), "key")
    assert offered["key-masks"][0] not in (masks, scan)


def test_a_mask_that_is_drawn_on_has_a_bit_of_its_own_and_a_way_back(
    offered: dict[str, tuple[Any, Volume]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored mask stays beside it, to be seen and to fetch lesions from."""
    places: list[tuple[Any, ...]] = []
    monkeypatch.setattr(volume_server, "offer_return", lambda *what: places.append(what) or "/back")
    first = scene(layers=[])
    volume_viewer._data(slice_viewer._volume(first, 0.5, 0), "key")
    before = offered["key-masks"][0]
    drawn = scene(layers=[], edit="work", drawn=lambda z: LUNGS[z, ::-1, ::-1])
    told = volume_viewer._data(slice_viewer._volume(drawn, 0.5, 0), "key")
    assert [mask["kind"] for mask in told["names"]] == ["lungs", "truth", "drawn"]
    assert told["edit"] == {"mask": 2, "key": "'work'", "path": "/back"}
    assert places[0][0] == "key-drawn"
    assert places[0][2] == SHAPE
    assert np.array_equal(whole(offered["key-masks"][1]) >> 2 & 1, LUNGS)
    assert offered["key-masks"][0] != before
    assert volume_viewer._data(slice_viewer._volume(first, 0.5, 0), "key")["edit"] is None


def test_a_part_of_the_slices_says_which(offered: dict[str, tuple[Any, Volume]]) -> None:
    told = volume_viewer._data(slice_viewer._volume(scene(zs=[1, 2, 3], slices=4), 0.5, 3), "key")
    assert (told["start"], told["first"], told["slices"], told["shape"]) == (2, 1, 4, [3, 5, 6])
    assert np.array_equal(whole(offered["key-scan"][1]), CT[1:])


@pytest.mark.parametrize(("count", "dtype", "shown"), [(8, np.uint8, 8), (9, np.uint16, 9), (20, np.uint16, 16)])
def test_many_masks_have_a_bit_each(offered: dict[str, tuple[Any, Volume]], count: int, dtype: Any, shown: int) -> None:
    def plane(number: int) -> volume_viewer.Plane:
        return lambda z: np.full(SHAPE[1:], (z + number) % 3 == 0)

    masks = [Mask(str(number), "model", plane(number)) for number in range(count)]
    told = volume_viewer._data(VolumeScene(1, 1, SHAPE, (1, 1, 1), False, "HU", lambda z: CT[z], masks), "key")
    bits = whole(offered["key-masks"][1])
    assert (bits.dtype, len(told["names"]), told["bytes"]) == (dtype, shown, np.dtype(dtype).itemsize)
    for number in range(shown):
        expected = np.stack([masks[number].plane(z) for z in range(SHAPE[0])])
        assert np.array_equal(bits >> number & 1, expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([-1024.4, 3000.6]), [-1024, 3001]),
        (np.float32([np.nan, 1e9]), [0, 32767]),
        (np.int32([-40000, 5]), [-32768, 5]),
        (np.uint8([0, 255]), [0, 255]),
    ],
)
def test_values_are_whole_numbers(values: np.ndarray, expected: list[int]) -> None:
    """What is under the cursor is read from them."""
    plane = volume_viewer._whole(lambda z: values[np.newaxis])(0)
    assert plane.dtype == np.int16
    assert plane.tolist() == [expected]


def test_a_spacing_that_is_not_known_measures_nothing(offered: dict[str, tuple[Any, Volume]]) -> None:
    """A ruler in mm would be made up."""
    told = volume_viewer._data(slice_viewer._volume(scene(spacing=(1.0, 1.0), thickness=1.0), 0.5, 0), "key")
    assert told["measured"] is False


def test_windows_of_scans_in_0_to_255_are_in_their_values(offered: dict[str, tuple[Any, Volume]]) -> None:
    told = volume_viewer._data(slice_viewer._volume(scene(scale="0-255"), 0.5, 0), "key")
    assert told["unit"] == "grey value"
    assert told["windows"][2] == ["Full", 0.0, 255.0]
