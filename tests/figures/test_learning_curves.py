"""Curves as figures: what the page shows must be what the training wrote."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.figures import learning_curves as charts

SCORES = {"pixel_accuracy": 0.9, "iou_foreground": 0.4, "dice_foreground": 0.5}


def history(epochs: int, **columns: list[float]) -> dict[str, np.ndarray]:
    steps = np.arange(1.0, epochs + 1)
    made = {"epoch": steps, "loss": 1 / steps, "val_loss": 2 / steps, "total_seconds": 10 * steps}
    for name, level in SCORES.items():
        made |= {name: level + 0.01 * steps, f"val_{name}": level - 0.01 * steps}
    return made | {name: np.array(values) for name, values in columns.items()}


def curve(name: str = "Dice", epochs: int = 3, slot: int = 0, metric: str = "dice", **columns: list[float]):
    return charts.Curve(name, metric, history(epochs, **columns), slot)  # type: ignore[arg-type]


def traces(figure, axis: str) -> list:
    """Of one panel, without the key."""
    return [trace for trace in figure.data if trace.xaxis == axis]


def test_both_panels_show_what_was_written() -> None:
    shown = curve()
    loss_validation, loss_training, _ = traces(charts.draw([shown], charts.View()), "x")
    assert loss_validation.y == pytest.approx(shown.history["val_loss"])
    assert loss_training.y == pytest.approx(shown.history["loss"])
    assert (loss_validation.line.dash, loss_training.line.dash) == ("solid", "dash")
    validation, training, _ = traces(charts.draw([shown], charts.View()), "x2")
    assert validation.y == pytest.approx(shown.history["val_dice_foreground"])
    assert training.y == pytest.approx(shown.history["dice_foreground"])
    assert list(validation.x) == [1, 2, 3]


def test_own_metric_is_each_runs_own_and_a_common_one_is_for_all() -> None:
    """Otherwise an accuracy of 0.99 would stand in the figure as if it were a Dice."""
    runs = [curve("A", metric="accuracy"), curve("B", metric="iou", slot=1)]
    own = charts.draw(runs, charts.View(score="own"))
    assert traces(own, "x2")[0].y == pytest.approx(runs[0].history["val_pixel_accuracy"])
    assert traces(own, "x2")[3].y == pytest.approx(runs[1].history["val_iou_foreground"])
    common = charts.draw(runs, charts.View(score="dice"))
    for number in (0, 3):
        assert traces(common, "x2")[number].y == pytest.approx(runs[0].history["val_dice_foreground"])
    assert "Dice" in common.layout.annotations[1].text


def test_the_star_is_the_epoch_whose_weights_are_kept() -> None:
    """The own metric decides which weights are kept, whatever score is looked at."""
    run = curve(metric="iou", val_iou_foreground=[0.1, 0.8, 0.3], val_dice_foreground=[0.9, 0.2, 0.3])
    for score in ("own", "dice"):
        star = traces(charts.draw([run], charts.View(score=score)), "x2")[2]  # type: ignore[arg-type]
        assert list(star.x) == [2]
        assert "epoch 2" in star.hovertemplate


def test_smoothing_keeps_the_first_value_and_the_level_and_calms_the_rest() -> None:
    noisy = np.array([1.0, 0.0] * 50)
    calm = charts.smooth(noisy, 0.9)
    assert calm[0] == 1.0
    assert charts.smooth(np.full(9, 0.7), 0.9) == pytest.approx(np.full(9, 0.7))
    assert np.ptp(calm[50:]) < 0.1 * np.ptp(noisy)
    assert charts.smooth(noisy, 0.0) is noisy


def test_a_missing_value_does_not_take_the_rest_of_a_smoothed_curve_with_it() -> None:
    smoothed = charts.smooth(np.array([1.0, np.nan, 1.0]), 0.5)
    assert np.isnan(smoothed[1])
    assert smoothed[2] == pytest.approx(1.0)


def test_time_is_in_a_unit_that_can_be_read() -> None:
    short = charts.draw([curve(total_seconds=[10, 20, 30])], charts.View(axis="time"))
    assert "[s]" in short.layout.xaxis.title.text
    assert list(traces(short, "x")[0].x) == [10, 20, 30]
    long = charts.draw([curve(total_seconds=[3600, 7200, 36000])], charts.View(axis="time"))
    assert "[h]" in long.layout.xaxis.title.text
    assert list(traces(long, "x")[0].x) == [1, 2, 10]


def box(x: tuple[float, float], y: tuple[float, float], panel: str = "") -> dict:
    return {"xref": f"x{panel}", "yref": f"y{panel}", "x": list(x), "y": list(y)}


def zoomed(view: charts.View, curves: list[charts.Curve], box: dict) -> dict:
    return charts.zoomed(charts.frame(curves, view), box)


def test_a_box_zooms_both_axes_and_stays_when_the_curves_grow() -> None:
    view = charts.View(zoom=zoomed(charts.View(), [curve(epochs=20)], box((12, 4), (1.5, 0.5))))
    assert view.zoom == {"epoch": (4, 12), "soft_dice_loss": (0.5, 1.5)}
    for epochs in (20, 40):
        layout = charts.draw([curve(epochs=epochs)], view).layout
        assert layout.xaxis.range == layout.xaxis2.range == (4, 12)
        assert layout.yaxis.range == (0.5, 1.5)
        assert layout.yaxis2.range is None


def test_a_flat_box_zooms_along_the_epochs_only() -> None:
    zoom = zoomed(charts.View(), [curve(epochs=20)], box((4, 12), (0.450, 0.451), "2"))
    assert zoom == {"epoch": (4, 12)}


def test_a_narrow_box_zooms_along_the_values_only() -> None:
    zoom = zoomed(charts.View(), [curve(epochs=20)], box((4, 4.1), (0.35, 0.45), "2"))
    assert zoom == {"own": (0.35, 0.45)}


def test_zooming_again_goes_deeper() -> None:
    runs = [curve(epochs=100)]
    first = charts.View(zoom=zoomed(charts.View(), runs, box((10, 20), (0.1, 0.2))))
    # a tenth of what is shown, though a hundredth of the whole
    second = zoomed(first, runs, box((14, 15), (0.10, 0.15)))
    assert second == {"epoch": (14, 15), "soft_dice_loss": (0.10, 0.15)}


def test_time_zoomed_in_minutes_is_the_same_time_in_hours() -> None:
    """The unit changes while a long training runs; what is zoomed must not."""
    minutes = [curve(total_seconds=[60, 3600, 7200])]
    zoom = zoomed(charts.View(axis="time"), minutes, box((30, 90), (0.4, 0.5), "2"))
    hours = [curve(total_seconds=[60, 3600, 36000])]
    layout = charts.draw(hours, charts.View(axis="time", zoom=zoom)).layout
    assert layout.xaxis.range == pytest.approx((0.5, 1.5))


def test_a_logarithmic_loss_shows_the_same_zoom() -> None:
    view = charts.View(log=True, zoom={"soft_dice_loss": (0.01, 0.1)})
    axis = charts.draw([curve(epochs=20)], view).layout.yaxis
    assert axis.type == "log"
    assert axis.range == pytest.approx((-2, -1))
    assert charts.draw([curve()], charts.View(log=True)).layout.yaxis2.type is None, "a score is never logarithmic"
    zoom = zoomed(charts.View(log=True), [curve(epochs=20)], box((4, 12), (0.1, 1.0)))
    assert zoom["soft_dice_loss"] == (0.1, 1.0)


def test_a_run_keeps_its_colour_when_others_come_and_go() -> None:
    first = charts.slots(["a", "b", "c"], {})
    assert charts.slots(["b", "c"], first) == {"b": first["b"], "c": first["c"]}
    later = charts.slots(["d", "b", "c"], first)
    assert later["b"] == first["b"]
    assert len(set(later.values())) == 3


def test_twenty_runs_can_be_told_apart() -> None:
    runs = [curve(f"run {slot}", slot=slot) for slot in range(20)]
    looks = {
        (trace.line.color, trace.marker.symbol)
        for trace in traces(charts.draw(runs, charts.View()), "x")
        if trace.line.dash == "solid"
    }
    assert len(looks) == 20


def test_a_run_without_an_epoch_is_no_error() -> None:
    waiting = charts.Curve("waits", "dice", {}, 1)
    figure = charts.draw([curve(), waiting], charts.View(smoothing=0.5, axis="time", log=True))
    assert {trace.name for trace in traces(figure, "x")} == {"Dice"}
    assert charts.kept_epoch(waiting) == 0


def test_a_hidden_curve_is_named() -> None:
    """Accuracy and IoU share a loss: without a word the user looks for a curve that lies under another."""
    same = [curve("A"), curve("B", slot=1), curve("C", slot=2, val_loss=[1, 2, 3])]
    assert charts.alike(same) == [["A", "B"]]
    assert charts.alike(same[1:]) == []
    other = curve("D", val_loss=[1, 2, 3])
    assert charts.alike([*same, other]) == [["A", "B"], ["C", "D"]], "two pairs are no four of a kind"


def test_losses_of_two_kinds_lie_in_two_panels() -> None:
    """In one of them the curve of the smaller loss would be a flat line at 0."""
    runs = [curve("Accuracy", metric="accuracy"), curve("IoU", metric="iou", slot=1), curve("Dice", slot=2)]
    drawn = charts.draw(runs, charts.View(score="dice"))
    panels = {axis: {trace.name for trace in traces(drawn, axis)} for axis in ("x", "x2", "x3")}
    assert panels == {"x": {"Accuracy", "IoU"}, "x2": {"Dice"}, "x3": {"Accuracy", "IoU", "Dice"}}
    titles = [annotation.text for annotation in drawn.layout.annotations]
    assert titles == ["<b>Loss: Binary cross-entropy</b>", "<b>Loss: Soft Dice</b>", "<b>Dice (foreground)</b>"]
    assert [trace.name for trace in drawn.data if trace.showlegend and trace.xaxis] == ["Accuracy", "IoU", "Dice"]
    zoom = zoomed(charts.View(score="dice"), runs, box((1, 2), (0.2, 0.4), "2"))
    assert list(zoom) == ["epoch", "soft_dice_loss"]
    axes = charts.draw(runs, charts.View(score="dice", zoom=zoom)).layout
    assert axes.yaxis2.range == (0.2, 0.4)
    assert axes.yaxis.range is None
    assert axes.yaxis3.range is None


@pytest.mark.parametrize(("epochs", "step"), [(3, 1), (10, 1), (100, None)])
def test_no_epoch_stands_twice_at_the_axis(epochs: int, step: int | None) -> None:
    """Plotly puts ticks at 1, 1.5 and 2, and writes 1, 1 and 2."""
    assert charts.draw([curve(epochs=epochs)], charts.View()).layout.xaxis.dtick == step
