"""What the tools of the editor mark, on small grids, and what undo brings back. A wrong voxel here is a wrong mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).resolve().parents[2] / "dashboard" / "components" / "volume_viewer"
SETUP = """
([size, spacing, values]) => {
    const [x, y, z] = size
    const bits = new Uint8Array(x * y * z)
    window.boxes = []
    window.d = new Drawing({
        bits, bit: 2, others: 1, values: Int16Array.from(values ?? new Array(x * y * z).fill(0)), size, spacing,
        changed: (low, high) => boxes.push([low, high])
    })
}
"""
Run = Callable[[str], Any]


@pytest.fixture
def page(shared_browser: Browser) -> Iterator[Page]:
    page = shared_browser.new_page()
    for name in ("drawing.js", "editor.js"):
        page.add_script_tag(content=(FOLDER / name).read_text(encoding="utf-8"))
    yield page
    page.close()


@pytest.fixture
def drawing(page: Page) -> Callable[..., Run]:
    """`drawing((x, y, z))`: an empty grid; then JavaScript about `d`, whose masks come as arrays (z, y, x)."""

    def make(
        size: tuple[int, int, int], spacing: tuple[float, ...] = (1, 1, 1), values: np.ndarray | None = None
    ) -> Run:
        page.evaluate(SETUP, [size, spacing, None if values is None else values.ravel().tolist()])
        return page.evaluate

    return make


def mask(run: Run, size: tuple[int, int, int], bit: int = 2) -> np.ndarray:
    bits = np.array(run("Array.from(d.bits)"), np.uint8).reshape(size[::-1])
    return (bits & bit) > 0


def ball(size: tuple[int, int, int], centre: tuple[int, int, int], radius: float, spacing: tuple[float, ...]) -> Any:
    z, y, x = np.indices(size[::-1])
    steps = ((x - centre[0]) * spacing[0], (y - centre[1]) * spacing[1], (z - centre[2]) * spacing[2])
    return sum(step**2 for step in steps) <= radius**2


def test_a_brush_is_round_in_millimetres_and_stays_in_its_plane(drawing: Callable[..., Run]) -> None:
    size, spacing = (20, 18, 12), (0.5, 1.0, 2.0)
    whole = ball(size, (8, 9, 5), 3, spacing)
    z, y, x = np.indices(size[::-1])
    for axis, plane in ((2, z == 5), (1, y == 9), (0, x == 8)):
        run = drawing(size, spacing)
        run(f"d.once(d.brush([8, 9, 5], {axis}, 3, false), true)")
        assert np.array_equal(mask(run, size), whole & plane), axis
    run = drawing(size, spacing)
    run("d.once(d.brush([8, 9, 5], 2, 3, true), true)")
    assert np.array_equal(mask(run, size), whole)
    run = drawing(size, spacing)
    run("d.once(d.brush([0, 17, 0], 2, 0.1, true), true)")
    assert np.argwhere(mask(run, size)).tolist() == [[0, 17, 0]], "the smallest brush is one voxel, in a corner too"


def test_within_limits_only_such_values_are_marked(drawing: Callable[..., Run]) -> None:
    size = (10, 10, 3)
    values = np.random.default_rng(0).integers(-1000, 500, size[::-1])
    run = drawing(size, values=values)
    run("d.once(d.brush([5, 5, 1], 2, 4, true, [-700, 100]), true)")
    fits = (values >= -700) & (values <= 100)
    assert np.array_equal(mask(run, size), ball(size, (5, 5, 1), 4, (1, 1, 1)) & fits)


def test_undo_and_redo_turn_over_what_a_step_has_changed_and_nothing_else(drawing: Callable[..., Run]) -> None:
    size = (12, 12, 4)
    run = drawing(size)
    run("d.bits.fill(1)")  # the other mask
    states = [mask(run, size)]
    for step in ("[4, 4, 1], 2, 3, false), true", "[6, 6, 1], 2, 3, true), true", "[5, 5, 1], 2, 2, true), false"):
        run(f"d.once(d.brush({step})")
        states.append(mask(run, size))
    for state in reversed(states[:-1]):
        run("d.undo()")
        assert np.array_equal(mask(run, size), state)
    assert run("d.undo()") is None
    for state in states[1:]:
        run("d.redo()")
        assert np.array_equal(mask(run, size), state)
    assert run("d.redo()") is None
    assert mask(run, size, 1).all(), "the other mask is untouched"
    run("d.undo()")
    run("d.once([0], true)")
    assert run("d.redo()") is None, "a new step ends what was taken back"
    assert run("d.once([0], true)") == 0, "what changes nothing is no step"
    assert run("d.done.length") == 3


def test_a_stroke_is_one_step_and_has_no_gaps(drawing: Callable[..., Run]) -> None:
    size = (40, 40, 2)
    run = drawing(size)
    run("""() => {
        d.begin(1)
        d.set(d.brush([5, 5, 1], 2, 1, false), true)
        for (const at of d.way([5, 5, 1], [33, 17, 1], 1)) d.set(d.brush(at, 2, 1, false), true)
        d.end()
    }""")
    drawn = mask(run, size)[1]
    assert run("d.done.length") == 1
    for share in np.linspace(0, 1, 200):
        assert drawn[round(5 + 12 * share), round(5 + 28 * share)]
    run("d.undo()")
    assert not mask(run, size).any()


def test_the_picture_is_told_the_box_that_changed(drawing: Callable[..., Run]) -> None:
    run = drawing((20, 20, 6))
    run("d.once(d.brush([10, 8, 3], 2, 2, false), true)")
    run("d.undo()")
    assert run("boxes") == [[[8, 6, 3], [12, 10, 3]]] * 2


def test_a_hole_is_filled_only_if_its_outline_is_closed(drawing: Callable[..., Run]) -> None:
    size = (12, 12, 3)
    run = drawing(size)
    run("""() => {
        const ring = []
        for (let n = 3; n < 8; n++) for (const side of [3, 7]) ring.push(d.at(n, side, 1), d.at(side, n, 1))
        d.once(ring, true)
    }""")
    assert run("d.hole([1, 1, 1], 2)") is None
    run("d.once(d.hole([5, 5, 1], 2), true)")
    expected = np.zeros(size[::-1], bool)
    expected[1, 3:8, 3:8] = True
    assert np.array_equal(mask(run, size), expected), "in its plane alone"


def test_growing_takes_what_is_connected_as_bright_and_near(drawing: Callable[..., Run]) -> None:
    size = (30, 12, 6)
    values = np.full(size[::-1], -900)
    values[2:4, 4:8, 3:27] = -300  # a tube
    values[0, 0, 0] = -300  # as bright, and apart
    values[2, 5, 6] = 400  # a vessel in it
    run = drawing(size, values=values)
    run("d.once(d.grow([5, 5, 3], 150, 100), true)")
    expected = values == -300
    expected[0, 0, 0] = False
    assert np.array_equal(mask(run, size), expected)
    run = drawing(size, values=values)
    run("d.once(d.grow([5, 5, 3], 150, 6), true)")
    assert np.array_equal(mask(run, size), expected & ball(size, (5, 5, 3), 6, (1, 1, 1)))
    run = drawing(size, values=values)
    assert run("d.grow([5, 5, 3], 2000, 6, [-400, 0]).length") == (expected & ball(size, (5, 5, 3), 6, (1, 1, 1))).sum()


def test_a_lesion_goes_and_comes_as_a_whole(drawing: Callable[..., Run]) -> None:
    size = (12, 12, 4)
    run = drawing(size)
    run("""() => {
        for (const at of [[3, 3, 1], [4, 3, 1], [4, 3, 2], [9, 9, 1]]) d.bits[d.at(...at)] = 3
        d.bits[d.at(6, 6, 3)] = d.bits[d.at(6, 7, 3)] = 1
    }""")
    assert run("d.lesion([0, 0, 0])") is None
    for _ in range(2):
        found = run("() => { const l = d.lesion([3, 3, 1]); return [l.on, d.once(l.places, l.on)] }")
        assert found[1] == 3
    assert mask(run, size)[2, 3, 4], "the second click brings it back, out of the other mask"
    assert mask(run, size)[1, 9, 9]
    run("() => { const l = d.lesion([6, 7, 3]); d.once(l.places, l.on) }")
    assert mask(run, size)[3, 6:8, 6].all(), "one of the other mask is added"


def test_between_two_slices_shapes_are_interpolated_and_others_stay(drawing: Callable[..., Run]) -> None:
    size = (40, 30, 12)
    run = drawing(size)
    run("() => { for (let z = 0; z < 12; z++) d.bits[d.at(35, 25, z)] = 2 }")  # a vessel that was marked before
    assert run("d.drawnSlices()") is None
    run("d.once(d.brush([10, 10, 3], 2, 5, false), true, 3)")
    assert run("d.drawnSlices()") is None
    run("d.once(d.brush([20, 10, 9], 2, 5, false), true, 9)")
    assert run("d.drawnSlices()") == [3, 9]
    run("d.once(d.between(3, 9), true)")
    drawn = mask(run, size)
    areas = drawn[:, :, :30].sum(axis=(1, 2))
    assert (areas[[3, 9]] == areas[3]).all()
    assert (areas[4:9] > 0.5 * areas[3]).all(), "also where the two do not lie over each other"
    assert not areas[:3].any()
    assert not areas[10:].any()
    centres = [np.argwhere(drawn[z, :, :30])[:, 1].mean() for z in range(3, 10)]
    assert (np.diff(centres) > 0).all()
    assert centres[3] == pytest.approx(15, abs=0.5)
    assert (drawn[:, 25, 35]).all()
    assert drawn[:, 20:, 30:].sum() == 12, "what nobody drew on these slices is not interpolated"
    run("d.undo()")
    run("d.once(d.brush([20, 10, 8], 2, 5, false), true, 8)")
    assert run("d.drawnSlices()") is None, "nothing lies between neighbours"


def test_several_shapes_are_interpolated_where_they_are(drawing: Callable[..., Run]) -> None:
    """One of two lesions ends: the other must not move for it."""
    size = (40, 20, 9)
    run = drawing(size)
    run("""() => {
        d.once([...d.brush([10, 10, 2], 2, 4, false), ...d.brush([30, 10, 2], 2, 4, false)], true, 2)
        d.once(d.brush([11, 10, 6], 2, 4, false), true, 6)
        d.once(d.between(2, 6), true)
    }""")
    drawn = mask(run, size)
    for z in (3, 4, 5):
        left = np.argwhere(drawn[z, :, :20])
        assert left[:, 1].mean() == pytest.approx(10.5, abs=0.6)
        assert len(left) > 0.8 * drawn[2, :, :20].sum()
    assert not drawn[5, :, 20:].any(), "what ends becomes smaller"


def test_old_steps_are_given_up_before_the_memory_of_the_browser(page: Page) -> None:
    page.evaluate(SETUP, [[1000, 1000, 4], [1, 1, 1], None])
    kept = page.evaluate("""() => {
        const all = new Uint32Array(4e6).map((_, n) => n)
        for (let n = 0; n < 10; n++) d.once(all, n % 2 === 0)
        return [d.done.length, d.done.reduce((sum, step) => sum + step.places.length, 0), d.forgotten]
    }""")
    assert kept == [7, 28e6, True]


def test_minutes_are_those_in_which_somebody_works(page: Page) -> None:
    """A cup of coffee is no annotation."""
    worked = page.evaluate("""() => {
        let now = 0
        performance.now = () => now
        const editor = Object.create(Editor.prototype)
        editor.worked = 0
        for (const seconds of [0, 10, 59, 61, 3600, 20]) { now += 1000 * seconds; editor.note() }
        return editor.worked
    }""")
    assert worked == 1000 * (10 + 59 + 20)
