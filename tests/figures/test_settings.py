"""Settings against score: a point in the wrong place would recommend the wrong setting."""

from __future__ import annotations

import itertools

import pytest

from covseg_core.figures.settings import Point, parallel, scatter

POINTS = [
    Point("one", "Dice", {"Learning rate": 1e-4, "Split": "patient", "Size": 128}, 0.7),
    Point("two", "Dice", {"Learning rate": 1e-2, "Split": "slice", "Size": 256}, 0.8),
    Point("three", "IoU", {"Learning rate": 1e-4, "Split": "patient", "Size": 192}, 0.6),
]


def test_each_run_is_a_point_of_its_group() -> None:
    chart = scatter(POINTS, "Size", "Test Dice")
    assert {trace.name: list(zip(trace.text, trace.x, trace.y, strict=True)) for trace in chart.data} == {
        "Dice": [("one", 128, 0.7), ("two", 256, 0.8)],
        "IoU": [("three", 192, 0.6)],
    }
    assert chart.layout.xaxis.title.text == "Size"


@pytest.mark.parametrize(("setting", "kind"), [("Learning rate", "log"), ("Split", "category"), ("Size", "linear")])
def test_numbers_that_spread_widely_are_logarithmic_and_words_stand_side_by_side(setting: str, kind: str) -> None:
    assert scatter(POINTS, setting, "Test Dice").layout.xaxis.type == kind


def test_each_run_is_a_line_through_its_settings_to_its_score() -> None:
    chart = parallel(POINTS, ["Learning rate", "Split", "Size"], "Test Dice")
    assert list(chart.layout.xaxis.ticktext) == ["Learning rate", "Split", "Size", "Test Dice"]
    lines = {line.name: list(line.y) for line in chart.data}
    assert lines["one"] == pytest.approx([0, 0, 0, 0.5])
    assert lines["two"] == pytest.approx([1, 1, 1, 1])
    assert lines["three"] == pytest.approx([0, 0, 0.5, 0])
    assert list(chart.data[0].text) == ["Learning rate 0.0001", "Split patient", "Size 128", "Test Dice 0.7"]
    assert len({line.line.color for line in chart.data}) == 3
    written = {(note.x, round(note.y, 3)): note.text for note in chart.layout.annotations}
    assert (written[0, 0], written[0, 1]) == ("0.0001", "0.01")
    assert (written[1, 0], written[1, 1]) == ("patient", "slice")
    assert (written[3, 0], written[3, 1]) == ("0.600", "0.800")


def test_many_numbers_on_an_axis_are_not_written_over_one_another() -> None:
    points = [Point(str(number), "Dice", {"Seed": number}, 0.5) for number in range(100)]
    chart = parallel(points, ["Seed"], "Test Dice")
    written = sorted(note.y for note in chart.layout.annotations if note.x == 0)
    assert (written[0], written[-1]) == (0, 1)
    assert min(high - low for low, high in itertools.pairwise(written)) > 0.06
    assert {line.y[1] for line in chart.data} == {0.5}, "a score that all share lies in the middle"
