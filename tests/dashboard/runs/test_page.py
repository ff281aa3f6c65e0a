"""All runs in one table: what is shown, found, written, compared and deleted."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pages
import pandas as pd
import pytest
from fakeruns import epoch_row
from streamlit.testing.v1 import AppTest

from covseg_core import runs
from covseg_core.config import Metric, PrepareConfig, RunConfig, SplitConfig, TrainConfig
from covseg_core.data.splitting.split import Split
from covseg_core.files import sha256_file, write_json
from covseg_core.places import Placed, slurm, write_placed
from covseg_core.runs import Run, State, host, turns
from covseg_core.runs.labels import Labels, edit_labels, read_labels
from covseg_core.runs.liveness import this_process
from covseg_core.runs.usage import GpuUsage, Usage
from dashboard.app_pages.runs import export_files, rows, training_queue

SPLIT = Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)})


def make_run(
    id: str, state: State = "finished", experiment: str = "", metric: Metric = "dice", dice: float | None = None,
    size: int = 128, seed: int = 0, **status: object,
) -> Run:  # fmt: skip
    config = RunConfig(
        id=id,
        experiment=experiment or id,
        dataset="sample",
        fingerprint="0" * 64,
        metric=metric,
        preset="quick",
        created="2026-01-02T03:04:05+00:00",
        prepare=PrepareConfig(size=size),
        train=TrainConfig(seed=seed),
    )
    run = runs.create_run(config, SPLIT)
    changes = {"state": state, "epochs": 2, "epoch": 2, "seconds": 120.0, **status}
    run.write_status(dataclasses.replace(run.status, **changes))  # type: ignore[arg-type]
    run.write_history([epoch_row(1), epoch_row(2)])
    if dice is not None:
        run.onnx.write_bytes(id.encode())
        scores = {"version": 1, "model_sha256": sha256_file(run.onnx), "model": {"pooled": {"dice": dice}}}
        write_json(run.evaluation, scores)
    return run


@pytest.fixture
def shipped(checkpoints_folder: Path) -> str:
    run = make_run("infection-dice", dice=0.77)
    (checkpoints_folder / "pretrained").mkdir()
    run.folder.rename(checkpoints_folder / "pretrained" / run.id)
    return run.id


def table(app: AppTest):
    return app.data_editor[0].value.set_index("Run")


def write(app: AppTest, row: int, **cells: object) -> AppTest:
    """What somebody writes in a row of the table, beside what was written before."""
    [key] = [element.key for element in app.data_editor]
    rows = app.session_state[key]["edited_rows"] if key in app.session_state else {}
    rows = {int(number): dict(values) for number, values in rows.items()}
    rows.setdefault(row, {}).update(cells)
    app.session_state[key] = {"edited_rows": rows, "added_rows": [], "deleted_rows": []}
    return pages.well(app.run())


def tick(app: AppTest, *rows: int) -> AppTest:
    for row in rows:
        write(app, row, Choose=True)
    return app


def button(app: AppTest, label: str) -> AppTest:
    [found] = [button for button in app.button if button.label == label]
    return pages.well(found.click().run())


def confirm(app: AppTest) -> AppTest:
    """In the dialog that asks."""
    return pages.well(app.button(key="runs-delete-yes").click().run())


def texts(app: AppTest) -> str:
    return "\n".join(element.value for kind in (app.markdown, app.caption, app.info) for element in kind)


def test_who_has_no_run_is_told_how_to_get_one() -> None:
    app = pages.open_page("runs")
    assert "Runs appear here as soon as a training is started." in texts(app)
    assert not app.data_editor


def test_runs_are_listed_with_their_states_and_scores(shipped: str) -> None:
    make_run("one", dice=0.8)
    make_run("two", "failed", epoch=1, reason="out of memory")
    # a process number that was used again: its start does not fit
    make_run("three", "running", process=f"{this_process()}1")
    found = table(pages.open_page("runs"))
    assert dict(found["State"]) == {"one": "Finished", "two": "Failed", "three": "Lost", shipped: "Shipped"}
    assert found.loc["two", "Reason"] == "out of memory"
    assert found.loc["two", "Epochs"] == 0.5
    assert found.loc["one", "Training"] == 120
    assert found.loc["one", "Test Dice"] == 0.8
    assert found.loc["two", "Test Dice"] != found.loc["two", "Test Dice"], "nobody has scored it"
    assert found.loc["one", "Validation Dice"] == pytest.approx(2 / 11)


def test_scores_of_an_earlier_model_are_not_shown() -> None:
    run = make_run("one", dice=0.8)
    run.onnx.write_bytes(b"resumed and trained further")
    found = table(pages.open_page("runs"))
    assert found["Test Dice"].isna().all()


def test_settings_have_a_column_where_they_differ() -> None:
    make_run("one", size=128, seed=1)
    make_run("two", size=256, seed=1)
    found = table(pages.open_page("runs"))
    assert dict(found["Size"]) == {"one": 128, "two": 256}
    assert "Seed" not in found and "Filters" not in found


def test_a_broken_run_does_not_hide_the_others() -> None:
    make_run("one")
    (make_run("two").folder / "status.json").write_text("{")
    (make_run("three").folder / "labels.json").write_text('{"tags": 1}')
    app = pages.open_page("runs")
    assert set(table(app).index) == {"one", "three"}
    assert len(app.warning) == 2
    assert "labels.json" in app.warning[0].value + app.warning[1].value


def test_what_is_written_in_a_row_is_kept_in_its_folder(checkpoints_folder: Path) -> None:
    """And nothing is written twice: a later word of the command line stands."""
    one, two = make_run("one"), make_run("two")
    app = pages.open_page("runs")
    order = list(table(app).index)
    write(app, order.index("two"), Name="Larger slices", Tags=["best", "talk"], Note="twice as slow")
    assert read_labels(two) == Labels("Larger slices", "twice as slow", ("best", "talk"))
    assert json.loads((two.folder / "labels.json").read_text())["name"] == "Larger slices"
    assert read_labels(one) == Labels()
    assert table(app).loc["two", "Name"] == "Larger slices"
    edit_labels([two], name="By the command line")
    write(app, order.index("one"), Note="x")
    assert read_labels(two).name == "By the command line"
    write(app, order.index("two"), Tags=["talk"], Name=None)
    assert read_labels(two) == Labels("", "twice as slow", ("talk",))


def test_what_cannot_be_written_is_said_and_not_shown(shipped: str) -> None:
    make_run("one")
    app = pages.open_page("runs")
    key = app.data_editor[0].key
    write(app, list(table(app).index).index(shipped), Name="Mine")
    assert "came with covseg" in app.error[0].value
    assert table(app).loc[shipped, "Name"] == ""
    assert app.data_editor[0].key != key, "the browser would show what was refused"
    write(app, 0, Tags=["a,b"])
    assert "without a comma" in app.error[0].value
    assert not pages.well(app.run()).error, "trouble is told once"


def test_ticked_runs_are_in_the_links_and_in_the_address(shipped: str) -> None:
    make_run("one", metric="iou", experiment="first")
    make_run("two", experiment="first")
    make_run("three", "failed")
    app = pages.open_page("runs")
    assert "Tick runs" in texts(app)
    order = list(table(app).index)
    tick(app, order.index("one"))
    links = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert links["Train again with other settings"] == "again=one"
    tick(app, *(order.index(id) for id in ("three", shipped)))
    assert "**3 runs chosen**" in texts(app)
    links = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert set(links["Live curves"].removeprefix("runs=").split("%2C")) == {"one", "three"}
    assert links["Compare"] == "runs=one", "nothing to compare of a run that failed"
    assert set("".join(app.query_params["runs"]).split(",")) == {"one", "three", shipped}
    write(app, order.index("one"), Choose=False)
    assert "**2 runs chosen**" in texts(app)
    assert "Compare" not in {link.proto.label for link in app.get("page_link")}
    again = pages.open_page("runs", runs="two")
    assert list(table(again)["Choose"]) == [id == "two" for id in table(again).index]


def test_all_that_is_shown_can_be_chosen_at_once() -> None:
    for id in ("one", "two", "three"):
        make_run(id)
    app = button(pages.open_page("runs"), "Choose all 3")
    assert "**3 runs chosen**" in texts(app)
    assert list(table(app)["Choose"]) == [True, True, True]
    assert not table(button(app, "Choose none"))["Choose"].any()


def test_search_and_filters_find_runs(shipped: str) -> None:
    edit_labels([make_run("one")], name="Larger slices", add=["best"])
    edit_labels([make_run("two", "failed")], note="too large", add=["best", "old"])
    make_run("three", metric="iou")
    app = pages.open_page("runs")

    def found() -> set[str]:
        return set(table(pages.well(app.run())).index) if pages.well(app.run()).data_editor else set()

    app.text_input(key="runs_search").set_value("large")
    assert found() == {"one", "two"}
    app.text_input(key="runs_search").set_value("LARGE slices")
    assert found() == {"one"}
    app.text_input(key="runs_search").set_value("")
    app.multiselect(key="runs_tags").set_value(["best"])
    assert found() == {"one", "two"}
    app.multiselect(key="runs_tags").set_value(["best", "old"])
    assert found() == {"two"}
    app.multiselect(key="runs_states").set_value(["finished"])
    assert found() == set()
    assert "Nothing fits" in texts(app)
    app.multiselect(key="runs_tags").set_value([])
    assert found() == {"one", "three", shipped}
    app.toggle(key="runs_shipped").set_value(False)
    assert found() == {"one", "three"}


def test_an_experiment_is_one_row_that_stands_for_its_runs() -> None:
    first = [make_run(f"first-{metric}", experiment="first", metric=metric, dice=0.7) for metric in ("iou", "dice")]
    second = make_run("second-dice", "failed", experiment="second")
    edit_labels(first[:1], add=["mine"])
    app = pages.open_page("runs")
    app.segmented_control(key="runs_view").set_value("Experiments")
    pages.well(app.run())
    found = app.data_editor[0].value.set_index("Experiment")
    assert dict(found["Runs"]) == {"first": 2, "second": 1}
    assert found.loc["first", "Metrics"] == "IoU, Dice"
    assert found.loc["first", "Best Test Dice"] == 0.7
    assert dict(found["State"]) == {"first": "Finished", "second": "Failed"}
    row = list(found.index).index("first")
    write(app, row, Name="The first", Tags=["all"])
    assert [read_labels(run).tags for run in first] == [("mine", "all"), ("all",)], "a run keeps its own"
    assert read_labels(second) == Labels()
    write(app, row, Tags=[])
    assert [read_labels(run).tags for run in first] == [("mine",), ()]
    write(app, row, Choose=True)
    assert "**2 runs chosen**" in texts(app)
    confirm(button(app, "Delete"))
    assert [run.id for run in runs.list_runs()] == ["second-dice"]
    assert "2 runs deleted" in app.success[0].value


def test_nothing_is_deleted_while_one_of_the_runs_is_active() -> None:
    make_run("one", experiment="both")
    make_run("two", "running", experiment="both", process=this_process())
    app = button(button(pages.open_page("runs"), "Choose all 2"), "Delete")
    assert "stop first: two" in app.error[0].value
    assert app.button(key="runs-delete-yes").disabled
    button(app, "Cancel")
    assert len(runs.list_runs()) == 2


def test_a_run_that_is_gone_is_not_chosen_any_more() -> None:
    """Another browser, or the command line, may delete it at any time."""
    one = make_run("one")
    make_run("two")
    app = button(pages.open_page("runs"), "Choose all 2")
    shutil.rmtree(one.folder)
    pages.well(app.run())
    assert "**1 run chosen**" in texts(app)
    assert list(table(app).index) == ["two"]


def figure(app: AppTest, key: str) -> dict:
    [found] = [chart for chart in app.get("plotly_chart") if key in chart.proto.id]
    return json.loads(found.proto.spec)


def opened(app: AppTest) -> AppTest:
    app.session_state["runs_charts"] = True
    return pages.well(app.run())


def test_settings_are_drawn_against_the_score_of_the_chosen_runs() -> None:
    make_run("one", size=128, seed=1, dice=0.7)
    make_run("two", size=256, seed=2, dice=0.8)
    make_run("three", size=256, seed=3)
    app = button(pages.open_page("runs"), "Choose all 3")
    assert not app.get("plotly_chart"), "nothing is drawn before it is opened"
    opened(app)
    assert "1 of the chosen runs have no Test Dice" in texts(app)
    assert app.selectbox(key="runs_setting").options == ["Size", "Seed"]
    [trace] = figure(app, "runs_scatter")["data"]
    assert dict(zip(trace["text"], trace["y"], strict=True)) == {"one": 0.7, "two": 0.8}
    lines = figure(app, "runs_parallel")
    assert lines["layout"]["xaxis"]["ticktext"] == ["Size", "Seed", "Test Dice"]
    assert {line["name"] for line in lines["data"]} == {"one", "two"}
    app.segmented_control(key="runs_score").set_value("Validation Dice")
    [trace] = figure(pages.well(app.run()), "runs_scatter")["data"]
    assert set(trace["text"]) == {"one", "two", "three"}


def test_runs_without_a_score_or_a_difference_are_no_figure() -> None:
    make_run("one")
    make_run("two")
    app = opened(button(pages.open_page("runs"), "Choose all 2"))
    assert "Fewer than two of the chosen runs have a Test Dice" in texts(app)
    app.segmented_control(key="runs_score").set_value("Validation Dice")
    assert "have the same settings" in texts(pages.well(app.run()))
    assert not app.get("plotly_chart")


@pytest.fixture
def queue() -> list[Run]:
    """One that trains and three that wait."""
    made = [make_run("first", "running", process=this_process(), pid=os.getpid(), host=host(), epoch=1, device="1 CPU")]
    for number, id in enumerate(("second", "third", "fourth")):
        made.append(make_run(id, "queued", process=this_process(), host=host(), queued=1.8e9 + number))
    return made


def order(app: AppTest) -> list[str]:
    numbered = [text.value for text in app.markdown if text.value[:2] in ("1.", "2.", "3.")]
    return [text.split()[1] for text in numbered]


def test_without_a_training_there_is_no_queue() -> None:
    make_run("one")
    assert "Queue" not in [heading.value for heading in pages.open_page("runs").subheader]


def test_what_trains_is_shown_with_what_it_takes_and_its_log(queue: list[Run]) -> None:
    queue[0].log.write_text("epoch 1 of 2\nepoch 2 begins\n")
    app = pages.open_page("runs")
    assert "**first** running, epoch 1 of 2" in texts(app)
    assert re.search(r"CPU \d+\.\d cores · memory \d+\.\d GB", texts(app))
    assert not app.code
    app.toggle(key="runs_log-first").set_value(True)
    assert pages.well(app.run()).code[0].value == "epoch 1 of 2\nepoch 2 begins"
    queue[0].log.write_text("epoch 2 ends\n")
    assert pages.well(app.run()).code[0].value == "epoch 2 ends"


def test_who_waits_is_moved_up_and_paused(queue: list[Run]) -> None:
    app = pages.open_page("runs")
    assert order(app) == ["second", "third", "fourth"]
    assert app.button(key="runs_arrow_upward-second").disabled
    pages.well(app.button(key="runs_arrow_upward-fourth").click().run())
    assert order(app) == ["second", "fourth", "third"]
    pages.well(app.button(key="runs_pause-second").click().run())
    assert [one.turn.paused for one in turns.waiting()] == [True, False, False]
    assert "Paused" in texts(app)
    pages.well(app.button(key="runs_play_arrow-second").click().run())
    assert not any(one.turn.paused for one in turns.waiting())
    pages.well(app.button(key="runs_stop-third").click().run())
    assert queue[2].status.state == "stopping"


def test_a_run_that_waits_on_a_cluster_says_why_and_has_no_turn_here(
    queue: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = make_run("sent", "queued", host="login", queued=1.7e9, process="", epoch=0)
    write_placed(sent.folder, Placed("gpu", "slurm", "login", "7", "covseg-7"))
    monkeypatch.setattr(slurm, "listed", lambda folder, placed: slurm.Job("7", "PENDING", "Resources", ""))
    app = pages.open_page("runs")
    assert order(app) == ["second", "third", "fourth"]
    assert "**sent** queued, epoch 0 of" in texts(app)
    assert "waits in SLURM's queue\\: Resources" in texts(app), "with Markdown's signs taken literally"
    assert not app.button(key="runs_stop-sent").disabled


def test_a_run_that_began_meanwhile_is_said_to_be_no_more_in_the_queue(queue: list[Run]) -> None:
    app = pages.open_page("runs")
    queue[1].write_status(dataclasses.replace(queue[1].status, state="finished"))
    pages.well(app.button(key="runs_pause-second").click().run())
    assert "second: is finished" in app.error[0].value


def test_gpus_are_told_with_their_memory() -> None:
    taken = Usage(1.84, 1_230_000_000, (GpuUsage(0, 0.97, 10_300_000_000, 80_000_000_000),))
    assert training_queue.words(taken) == "CPU 1.8 cores · memory 1.2 GB · GPU 0 97%, 10.3 of 80.0 GB"


def test_chosen_runs_are_given_as_a_table_and_to_tensorboard(shipped: str) -> None:
    edit_labels([make_run("one", dice=0.8)], name="Larger, slices", add=["best", "talk"])
    make_run("two", "queued").history_csv.unlink()
    chosen = rows.run_rows()[0]
    table = pd.read_csv(io.BytesIO(export_files.table_csv(chosen))).set_index("Run")
    assert set(table.index) == {"one", "two", shipped}
    assert (table.loc["one", "Name"], table.loc["one", "Tags"]) == ("Larger, slices", "best, talk")
    assert table.loc["one", "Test Dice"] == 0.8
    assert "Choose" not in table
    with zipfile.ZipFile(io.BytesIO(export_files.events_zip(chosen))) as archive:
        folders = {name.rpartition("/")[0] for name in archive.namelist()}
    assert folders == {f"{id}/{part}" for id in ("one", shipped) for part in ("train", "validation")}
    app = button(pages.open_page("runs"), "Choose all 3")
    assert [found.proto.label for found in app.get("download_button")] == ["Table (CSV)", "TensorBoard (zip)"]
