"""The live page in its states, without a browser. Real trainings are watched in tests/browser."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pages
import pytest
from fakeruns import Idle
from pages import well
from streamlit.testing.v1 import AppTest

from covseg_core import runs
from covseg_core.config import THESIS, Metric, RunConfig, SplitConfig, TrainConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import RunError
from covseg_core.files import write_json
from covseg_core.runs import Run, State, host, jobs
from covseg_core.runs.liveness import this_process
from covseg_core.runs.previews import PreviewSlice
from dashboard.app_pages.monitor import curves, run_progress
from dashboard.services import model_catalog, run_history

COLUMNS = ("loss", "pixel_accuracy", "iou_foreground", "dice_foreground")


@pytest.fixture(autouse=True)
def _every_epoch_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "HOLD", 0.0)


def make_run(
    id: str,
    state: State = "finished",
    epochs: int = 3,
    metric: Metric = "dice",
    experiment: str = "first",
    created: str = "2026-01-02T03:04:05+00:00",
    **status: object,
) -> Run:
    config = RunConfig(
        id=id,
        experiment=experiment,
        dataset="sample",
        fingerprint="0" * 64,
        metric=metric,
        preset="quick",
        created=created,
        train=TrainConfig(epochs=10),
    )
    run = runs.create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
    changes = {"state": state, "epochs": 10, "epoch": epochs, "device": "1 CPU", **status}
    run.write_status(dataclasses.replace(run.status, **changes))  # type: ignore[arg-type]
    learn(run, epochs)
    return run


def learn(run: Run, epochs: int, seconds: Sequence[float] | None = None) -> None:
    """History and previews after so many epochs; the prediction of epoch n has n of 8 rows right."""
    seconds = seconds or [20.0] * epochs
    columns = dict.fromkeys((*COLUMNS, *(f"val_{name}" for name in COLUMNS)), 0.5)
    run.write_history(
        [
            {
                "epoch": epoch,
                **{name: value + 0.01 * epoch for name, value in columns.items()},
                "learning_rate": 0.001,
                "seconds": seconds[epoch - 1],
                "total_seconds": sum(seconds[:epoch]),
            }
            for epoch in range(1, epochs + 1)
        ]
    )
    run.previews.mkdir(exist_ok=True)
    masks = np.zeros((4, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 1
    np.save(run.previews / "images.npy", np.full((4, 16, 16), 120, np.uint8))
    np.save(run.previews / "masks.npy", masks)
    write_json(run.previews / "slices.json", [PreviewSlice("case_1", z) for z in range(4)])
    for epoch in range(1, epochs + 1):
        predicted = masks * 255
        predicted[:, 4 + epoch :] = 0
        np.save(run.previews / f"epoch_{epoch:04d}.npy", predicted)


def open_page(**query: str) -> AppTest:
    return pages.open_page("monitor", **query)


def figure(app: AppTest) -> dict:
    [chart] = app.get("plotly_chart")
    return json.loads(chart.proto.spec)


def drawn(app: AppTest, column: str = "x") -> dict[str, list[float]]:
    """Validation curves of one panel by the run's name."""
    found = {}
    for trace in figure(app)["data"]:
        if trace.get("xaxis") == column and trace.get("line", {}).get("dash") == "solid":
            y = trace["y"]
            found[trace["name"]] = np.frombuffer(base64.b64decode(y["bdata"]), y["dtype"]).tolist()
    return found


def texts(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    bars = [bar.proto.text for bar in app.get("progress")]
    return "\n".join([element.value for kind in kinds for element in kind] + bars)


def test_without_a_run_the_page_says_where_to_go() -> None:
    app = open_page()
    assert "No run yet" in [header.value for header in app.subheader]
    [link] = app.get("page_link")
    assert link.proto.label == "Go to data and training"
    assert not app.multiselect


def test_the_newest_experiment_is_what_a_user_wants_to_see() -> None:
    make_run("old-dice", experiment="old", created="2025-01-01T00:00:00+00:00")
    for metric in reversed(THESIS):
        make_run(f"new-{metric}", metric=metric, experiment="new")
    app = open_page()
    assert app.multiselect[0].value == ["new-accuracy", "new-iou", "new-dice"]
    assert list(drawn(app, "x3")) == ["Accuracy", "IoU", "Dice"]
    assert app.query_params["runs"] == "new-accuracy,new-iou,new-dice"


def test_an_experiment_that_waits_in_the_queue_does_not_hide_the_one_that_trains() -> None:
    """As with `--split both`: the page would be empty for an hour."""
    make_run("old-dice", experiment="old", created="2025-01-01T00:00:00+00:00")
    make_run("trains", "running", epochs=1, experiment="first", created="2026-01-01T00:00:00+00:00")
    make_run("next", "queued", epochs=0, experiment="first", created="2026-01-01T00:00:00+00:00")
    make_run("later", "queued", epochs=0, experiment="second", created="2026-01-01T00:00:01+00:00")
    assert set(open_page().multiselect[0].value) == {"trains", "next"}


def test_if_all_wait_the_newest_experiment_is_shown() -> None:
    make_run("first", "queued", epochs=0, experiment="first", created="2026-01-01T00:00:00+00:00")
    make_run("second", "queued", epochs=0, experiment="second", created="2026-01-01T00:00:01+00:00")
    assert open_page().multiselect[0].value == ["second"]


def test_a_link_shows_the_runs_it_names() -> None:
    for id in ("one", "two", "three"):
        make_run(id, experiment=id)
    app = open_page(runs="three,gone,one")
    assert app.multiselect[0].value == ["three", "one"]
    assert "gone" in app.warning[0].value
    assert len(drawn(app)) == 2


def test_runs_of_one_minute_are_told_apart() -> None:
    """Otherwise two curves have one name."""
    for id in ("one", "two"):
        make_run(id, experiment=id)
    assert set(drawn(open_page(runs="one,two"))) == {"one", "two"}


def test_choosing_runs_changes_the_link() -> None:
    make_run("one")
    make_run("two", experiment="second")
    app = open_page(runs="one")
    app.multiselect[0].set_value(["one", "two"]).run()
    assert well(app).query_params["runs"] == "one,two"
    app.multiselect[0].set_value([]).run()
    assert "Choose at least one run" in well(app).info[0].value


def test_curves_grow_while_somebody_watches() -> None:
    run = make_run("one", "running", epochs=2)
    app = open_page()
    assert drawn(app)["Dice"] == pytest.approx([0.51, 0.52])
    learn(run, 5)
    assert drawn(well(app.run()))["Dice"] == pytest.approx([0.51, 0.52, 0.53, 0.54, 0.55])


def test_a_figure_rests_for_a_moment_so_that_a_box_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new figure takes the mouse from whoever draws; epochs of a small training end every second."""
    monkeypatch.setattr(curves, "HOLD", 1000.0)
    run = make_run("one", "running", epochs=2)
    make_run("two", metric="iou")
    app = open_page()
    before = figure(app)
    learn(run, 5)
    assert figure(well(app.run())) == before
    assert "Epoch 5 of 10" in texts(app), "the rest of the page goes on"
    app.slider(key="monitor_smoothing").set_value(0.6).run()
    assert figure(well(app)) != before, "what the user asks for is drawn at once"
    app.multiselect[0].set_value(["one"]).run()
    assert len(drawn(well(app))["Dice"]) == 5


def test_a_refresh_leaves_what_the_user_chose_alone() -> None:
    run = make_run("one", "running")
    make_run("two", metric="iou", experiment="second")
    app = open_page(runs="one")
    app.button_group(key="monitor_score").set_value("iou")
    app.button_group(key="monitor_axis").set_value("time")
    app.slider(key="monitor_smoothing").set_value(0.6)
    app.toggle(key="monitor_log").set_value(True)
    well(app.run())
    app.session_state.monitor_zoom = {"time": (15.0, 45.0), "soft_dice_loss": (0.1, 1.0)}
    for epochs in (4, 5):
        learn(run, epochs)
        well(app.run())
        assert app.multiselect[0].value == ["one"]
        assert app.slider(key="monitor_smoothing").value == 0.6
        layout = figure(app)["layout"]
        assert layout["xaxis"]["range"] == [15, 45]
        assert layout["yaxis"]["range"] == [-1, 0]
        assert "IoU" in layout["annotations"][1]["text"]
        assert "[s]" in layout["xaxis"]["title"]["text"]
    [button] = [button for button in app.button if button.label == "Show everything"]
    button.click().run()
    assert "range" not in figure(well(app))["layout"]["xaxis"]


def test_before_the_first_epoch_there_is_no_empty_figure() -> None:
    make_run("one", "queued", epochs=0, reason="waiting for 2 ahead")
    app = open_page()
    assert not app.get("plotly_chart")
    assert "first epoch ends" in app.info[0].value
    assert "waiting for 2 ahead" in texts(app)


def test_a_running_run_says_how_far_it_is_on_what_and_how_long_it_takes() -> None:
    run = make_run("one", "running", epochs=4)
    learn(run, 4, [100.0, 30.0, 30.0, 30.0])
    shown = texts(open_page())
    assert "Epoch 4 of 10" in shown
    assert "about 3 min left" in shown
    assert "Dice (foreground) 0.5400, best 0.5400 in epoch 4" in shown
    assert "1 CPU" in shown


def test_time_left_comes_from_the_last_epochs() -> None:
    """The first epoch loads and compiles, and early ones may have had the machine for themselves."""
    run = make_run("one", "running", epochs=8)
    learn(run, 8, [500.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0, 20.0])
    [known] = model_catalog.listed_runs()[0]
    assert run_progress.time_left(run_history.look(known)) == pytest.approx(2 * 20.0)
    run.write_status(dataclasses.replace(run.status, step=5, steps=10))
    assert run_progress.time_left(run_history.look(known)) == pytest.approx(1.5 * 20.0)
    run.write_status(dataclasses.replace(run.status, state="queued"))
    assert run_progress.time_left(run_history.look(known)) is None


@pytest.mark.parametrize(("state", "later"), [("failed", ""), ("running", "1")], ids=["failed", "lost"])
def test_a_run_that_broke_says_why_and_shows_the_end_of_its_log(state: State, later: str) -> None:
    """A process number whose start does not fit belongs to another process: the run is lost."""
    run = make_run("one", state, reason="out of memory", process=this_process() + later)
    run.log.write_text("".join(f"line {number}\n" for number in range(100)))
    app = open_page()
    assert ("out of memory" if state == "failed" else "without a word") in texts(app)
    assert app.code[0].value == "\n".join(f"line {number}" for number in range(70, 100))
    assert {"Resume", "Delete"} <= {button.label for button in app.button}


def test_a_log_that_is_not_text_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert run_history.log_tail(log) == ""
    log.write_bytes(b"x" * 100_000 + b"\n\xff\xfe end\n")
    assert run_history.log_tail(log, 1).endswith(" end")


def test_stop_asks_the_training_to_stop() -> None:
    run = make_run("one", "running")
    app = open_page()
    app.button(key="stop-one").click().run()
    assert run.stop_file.exists()
    assert "Stopping" in texts(well(app))
    assert app.button(key="stop-one").disabled, "asking twice changes nothing"


def test_resume_puts_a_run_back_in_the_queue(no_training: None) -> None:
    run = make_run("one", "stopped", reason="stopped on request")
    app = open_page()
    assert "stopped on request" in texts(app)
    app.button(key="resume-one").click().run()
    assert list(Idle.held) == [run.folder], "its worker is started"
    assert run.status.state == "queued"
    assert "Queued" in texts(well(app))


def test_delete_asks_first_and_the_run_is_gone_from_the_page() -> None:
    make_run("one")
    run = make_run("two", metric="iou")
    app = open_page()
    app.button(key="delete-two").click().run()
    assert run.folder.exists(), "nothing happens before the answer"
    app.button(key="delete-no").click().run()
    assert run.folder.exists()
    assert "delete-yes" not in [button.key for button in well(app).button], "the question goes away"
    app.button(key="delete-two").click().run()
    app.button(key="delete-yes").click().run()
    assert not run.folder.exists()
    assert well(app).multiselect[0].value == ["one"]
    assert list(drawn(app)) == ["Dice"]


def test_what_cannot_be_done_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else was faster, or the folder is read-only: the page stays, and says so until the next click."""
    make_run("one", "running")

    def refuse(run: Run) -> None:
        raise RunError(run.id, "is finished", "a run that is queued or running")

    monkeypatch.setattr(jobs, "stop", refuse)
    app = open_page()
    app.button(key="stop-one").click().run()
    assert [error.value for error in well(app).error] == ["one: is finished; expected a run that is queued or running"]
    assert app.run().error, "a refresh two seconds later must not wipe it away"


def test_a_run_deleted_elsewhere_leaves_the_page_by_itself() -> None:
    make_run("one")
    gone = make_run("two", metric="iou")
    app = open_page()
    runs.delete_run(gone)
    assert well(app.run()).multiselect[0].value == ["one"]


def test_a_broken_run_does_not_hide_the_others() -> None:
    make_run("good")
    (make_run("bad").folder / "config.json").write_text("{}")
    app = open_page()
    assert app.multiselect[0].value == ["good"]
    assert len(app.multiselect[0].options) == 1
    assert "bad" in app.warning[0].value
    assert list(drawn(well(app.run()))) == ["Dice"]


def test_a_broken_history_does_not_hide_the_other_curves() -> None:
    make_run("good")
    make_run("bad", metric="iou").history_csv.write_text("epoch,loss\n1,not a number\n")
    app = open_page()
    assert list(drawn(app)) == ["Dice"]
    assert any("history.csv" in warning.value for warning in app.warning)


def test_a_history_is_read_again_only_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty long histories every two seconds for each browser would keep the machine from training."""
    run = make_run("one")
    first = run_history.history(run)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "history", lambda self: pytest.fail("read again"))
        assert run_history.history(run) is first
    learn(run, 4)
    assert len(run_history.history(run)["epoch"]) == 4


def epoch_slider(app: AppTest):
    [slider] = [slider for slider in app.slider if slider.label == "Epoch"]
    return slider


def captions(app: AppTest) -> list[str]:
    return [image.caption for element in app.get("image") for image in element.proto.imgs]


def test_the_newest_prediction_is_shown_until_the_user_chooses_another_epoch() -> None:
    """Epoch n has n of 8 rows right: a Dice of 2n / (n + 8)."""
    run = make_run("one", "running", epochs=2)
    app = open_page()
    assert captions(app) == [f"case_1, slice {z} · Dice 0.40" for z in (1, 2, 3, 4)]
    learn(run, 4)
    app.run()
    assert captions(well(app))[0].endswith("Dice 0.67")
    epoch_slider(app).set_value(1).run()
    assert captions(well(app))[0].endswith("Dice 0.22")
    learn(run, 5)
    app.run()
    assert epoch_slider(app).value == 1, "it jumped away from what the user looks at"
    epoch_slider(app).set_value(10).run()
    learn(run, 6)
    assert captions(well(app.run()))[0].endswith("Dice 0.86"), "at its right end it follows again"


def test_play_runs_from_the_first_epoch_to_the_newest_and_ends() -> None:
    make_run("one", epochs=4)
    app = open_page()
    app.button(key="preview_play").click().run()
    seen = []
    for _ in range(8):
        seen.append(epoch_slider(app).value)
        well(app.run())
    assert seen[:3] == sorted(seen[:3])
    assert seen[0] < 4
    assert seen[-1] == 4
    assert app.button(key="preview_play").label == "Play"


def test_broken_predictions_are_one_line() -> None:
    run = make_run("one")
    (run.previews / "epoch_0003.npy").write_bytes(b"half")
    assert any("epoch_0003.npy" in warning.value for warning in open_page().warning)


def test_twenty_runs_fit_the_page() -> None:
    for number in range(20):
        make_run(f"run-{number:02d}", metric=THESIS[number % 3], experiment=f"e{number // 3}")
    app = open_page(runs=",".join(f"run-{number:02d}" for number in range(20)))
    assert len(app.get("progress")) == 20
    solid = [trace for trace in figure(app)["data"] if trace.get("xaxis") and trace.get("showlegend")]
    assert len(solid) == 20


def links(app: AppTest) -> dict[str, str]:
    return {link.proto.label: link.proto.query_string for link in app.get("page_link")}


def test_a_training_that_ends_is_said_and_can_be_compared_by_one_click() -> None:
    """Somebody who waits for it must not have to compare the states of eight runs."""
    one = make_run("one", "running", process=this_process(), host=host())
    make_run("two", "running", process=this_process(), host=host(), metric="iou")
    app = open_page(runs="one,two")
    assert "Training ended" not in texts(app)
    assert "Compare these runs" not in links(app)
    one.write_status(dataclasses.replace(one.status, state="finished"))
    well(app.run())
    assert "Training ended] Dice finished" in texts(app)
    assert links(app)["Compare"] == links(app)["Compare these runs"] == "runs=one"
    well(app.run())
    assert "Training ended" in texts(app), "until it is closed"
    well(app.button(key="monitor_close").click().run())
    assert "Training ended" not in texts(app)
    assert "Compare these runs" in links(app)


def test_a_training_that_fails_is_said_too_and_not_offered_for_comparison() -> None:
    one = make_run("one", "running", process=this_process(), host=host())
    app = open_page(runs="one")
    one.write_status(dataclasses.replace(one.status, state="failed", reason="no space left"))
    well(app.run())
    assert "Training ended] Dice failed" in texts(app)
    assert "Compare" not in links(app)


def test_what_had_ended_before_is_no_news() -> None:
    make_run("one")
    assert "Training ended" not in texts(open_page(runs="one"))
