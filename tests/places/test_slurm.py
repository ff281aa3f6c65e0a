"""On a real SLURM: what a cluster does to a training must cost nothing but time, and be said in words that help."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from onecluster import Cluster

from covseg_core import worker
from covseg_core.cli import cli
from covseg_core.errors import PlaceError, RunError
from covseg_core.places import read_placed, slurm, write_placed
from covseg_core.runs import Run, delete_run, jobs, list_runs, place_check, turns
from covseg_core.training.heartbeat import Heart

TINY = {"size": 32, "filters": 2, "batch": 4}
BARE = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
"""A Python that has none of what covseg needs."""


def _until(condition: Callable[[], object], seconds: float = 60, what: Callable[[], object] = str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what()}"
        time.sleep(0.1)


def _held(dataset: str, metrics: tuple[str, ...] = ("dice",)) -> list[Run]:
    return jobs.train(dataset, list(metrics), epochs=1, place="held", **TINY)  # type: ignore[arg-type]


def _place(checkpoints: Path, text: str) -> None:
    with open(checkpoints / "places.toml", "a") as file:
        file.write(text)


def _gone(run: Run) -> bool:
    return slurm.listed(run.folder, run.placed) is None


def test_a_run_that_waits_says_why_and_is_no_business_of_this_machines_queue(phantoms, nodes):
    [run] = _held(phantoms)
    placed = run.placed
    assert (placed.place, placed.kind, bool(placed.job)) == ("held", "slurm", True)
    assert (run.status.state, run.status.reason) == ("queued", "waits in SLURM's queue: JobHeldUser")
    assert turns.waiting() == []
    with pytest.raises(RunError, match="is queued; expected a run that has ended"):
        delete_run(run)
    with pytest.raises(RunError, match="is queued"):
        jobs.resume(run)


def test_a_stop_takes_a_job_back_that_has_not_begun_and_a_resume_sends_another(phantoms, nodes):
    [run] = _held(phantoms)
    first = run.placed
    jobs.stop(run)
    assert (run.status.state, run.status.reason) == ("stopped", "stopped while it waited")
    assert _gone(run)
    jobs.resume(run)
    assert run.status.state == "queued"
    assert run.placed.ticket != first.ticket
    jobs.stop(run)
    delete_run(run)
    assert list_runs() == []


def test_a_job_that_was_cancelled_from_outside_leaves_a_run_that_is_lost_and_can_be_resumed(phantoms, nodes: Cluster):
    [run] = _held(phantoms)
    nodes.call("scancel", run.placed.job)
    _until(lambda: _gone(run))
    assert run.status.state == "queued", "its last word may still be on its way"
    _until(lambda: run.status.state == "lost")
    assert run.status.reason.startswith(f"SLURM no longer has its job {run.placed.job}, and no node has written")
    jobs.resume(run)
    assert run.status.state == "queued"


def test_while_the_controller_is_down_nothing_is_lost(phantoms, nodes: Cluster):
    [run] = _held(phantoms)
    sent = time.time()
    state = nodes.folder / "state" / "job_state"
    _until(lambda: state.exists() and state.stat().st_mtime > sent)  # what it remembers of its jobs
    nodes.kill_controller()
    time.sleep(6)  # longer than a status stays fresh
    status = run.status
    assert status.state == "queued"
    assert "SLURM's queue: squeue" in status.reason
    assert "\n" not in status.reason
    with pytest.raises(PlaceError, match="place two: sbatch"):
        jobs.train(phantoms, ["dice"], place="two", **TINY)
    assert list_runs() == [run]
    nodes.start_controller()
    _until(lambda: run.status.reason == "waits in SLURM's queue: JobHeldUser", 120, lambda: run.status)


def test_an_unknown_partition_is_said_before_a_run_is_made(phantoms, nodes, checkpoints_folder):
    _place(checkpoints_folder, "[wrong]\npartition = 'nope'\n")
    with pytest.raises(PlaceError, match="place wrong: sbatch: invalid partition specified: nope"):
        jobs.train(phantoms, ["dice"], place="wrong", **TINY)
    assert list_runs() == []
    shown = CliRunner().invoke(cli, ["places", "check", "wrong"], standalone_mode=False)
    assert (shown.return_value, shown.output.count("\n")) == (2, 1)
    assert "WRONG  partition: place wrong: sbatch: invalid partition specified: nope" in shown.output


def test_without_slurm_the_missing_command_is_named(phantoms, checkpoints_folder, monkeypatch):
    checkpoints_folder.mkdir()
    _place(checkpoints_folder, "[gpu]\n")
    monkeypatch.setenv("PATH", str(checkpoints_folder))
    with pytest.raises(PlaceError, match="place gpu: no command sbatch on this machine"):
        jobs.train(phantoms, ["dice"], place="gpu", **TINY)
    assert list_runs() == []


def test_a_place_that_is_refused_in_the_middle_leaves_runs_that_can_be_resumed(phantoms, nodes, monkeypatch):
    """The limit of jobs a user may send is reached after the first one."""
    sent, submit = [], slurm.submit

    def limited(place: object, folder: Path, host: str) -> None:
        if sent:
            raise PlaceError("place held", "sbatch: Job violates accounting/QOS policy")
        sent.append(folder)
        submit(place, folder, host)  # type: ignore[arg-type]

    monkeypatch.setattr(slurm, "submit", limited)
    with pytest.raises(PlaceError, match="QOS"):
        _held(phantoms, ("accuracy", "iou", "dice"))
    monkeypatch.setattr(slurm, "submit", submit)
    by_metric = {run.config.metric: run for run in list_runs()}
    assert by_metric["accuracy"].status.state == "queued"
    assert (by_metric["iou"].status.state, by_metric["dice"].status.state) == ("failed", "lost")
    assert "QOS" in by_metric["iou"].status.reason
    assert by_metric["dice"].status.reason == "it was not sent to SLURM"
    for metric in ("iou", "dice"):
        jobs.resume(by_metric[metric])
        assert by_metric[metric].status.state == "queued"


def test_a_node_without_covseg_is_told_by_the_run_and_by_the_check(phantoms, nodes, checkpoints_folder):
    _place(checkpoints_folder, f"[bare]\npython = '{BARE}'\n")
    [run] = jobs.train(phantoms, ["dice"], place="bare", **TINY)
    _until(lambda: run.status.state == "lost", 90)
    assert f"SLURM no longer has its job {run.placed.job}, whose log ends with: ModuleNotFound" in run.status.reason
    [asked, node] = place_check.check("bare")
    assert not asked.wrong
    assert node.wrong
    assert "could not run covseg: ModuleNotFoundError" in node.found


def test_a_folder_that_nodes_do_not_have_is_told_by_the_run(phantoms, nodes: Cluster, checkpoints_folder):
    [run] = _held(phantoms)
    away = checkpoints_folder.with_name("away")
    checkpoints_folder.rename(away)  # as it looks on the node
    nodes.call("scontrol", "release", run.placed.job or read_placed(away / run.id).job)
    _until(lambda: not nodes.call("squeue", "--noheader"))
    away.rename(checkpoints_folder)
    _until(lambda: run.status.state == "lost")
    assert (
        f"and no node has written to {run.folder}: it was cancelled, or this folder is not shared" in run.status.reason
    )


def test_a_folder_that_nodes_do_not_have_is_told_by_the_check(nodes: Cluster, checkpoints_folder, monkeypatch):
    monkeypatch.setattr(place_check, "_LATE", 3.0)
    away = checkpoints_folder.with_name("away")

    def hide() -> None:
        _until(lambda: "JobHeldUser" in nodes.call("squeue", "--noheader", "--format=%r"))
        checkpoints_folder.rename(away)
        nodes.call("scontrol", "release", nodes.call("squeue", "--noheader", "--format=%i").strip())
        _until(lambda: not nodes.call("squeue", "--noheader"))
        away.rename(checkpoints_folder)

    hiding = threading.Thread(target=hide)
    hiding.start()
    found = place_check.check("held")
    hiding.join()
    assert [one.what for one in found if one.wrong] == ["folder"]
    assert "wrote nothing to" in found[-1].found


def test_a_check_of_a_good_place_finds_nothing_wrong(nodes, data_folder):
    data_folder.mkdir()
    shown = CliRunner().invoke(cli, ["places", "check", "two"])
    assert "WRONG" not in shown.output
    for words in ("partition: main takes jobs", "locks: are seen by the other machine", "clock: agrees", ", as here"):
        assert words in shown.output


def test_a_clock_an_hour_off_is_told_and_is_not_wrong(nodes, data_folder, checkpoints_folder, tmp_path):
    data_folder.mkdir()
    (tmp_path / "sitecustomize.py").write_text("import time\nreal = time.time\ntime.time = lambda: real() + 3600\n")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}:{Path(jobs.__file__).parents[2]}"
    _place(checkpoints_folder, f"[fast]\nenvironment = {{ PYTHONPATH = '{path}' }}\n")
    found = {one.what: one for one in place_check.check("fast")}
    assert found["clock"].found.startswith("differs by 3600 s")
    assert not any(one.wrong for one in found.values())


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_run_whose_node_has_a_wrong_clock_is_not_lost_by_it(phantoms, nodes: Cluster, hours):
    """Its heartbeat is of an hour ago; what was written just now was written just now."""
    [run] = _held(phantoms)
    nodes.call("scancel", run.placed.job)
    _until(lambda: _gone(run))
    run.write_status(dataclasses.replace(run.written_status, state="running", heartbeat=time.time() + 3600 * hours))
    assert run.status.state == "running"
    _until(lambda: run.status.state == "lost", 12)


def test_a_job_that_was_sent_earlier_leaves_the_run_alone(phantoms, nodes: Cluster):
    [run] = _held(phantoms)
    old = run.placed
    write_placed(run.folder, dataclasses.replace(old, ticket="covseg-another", job="0"))
    before = run.written_status
    nodes.call("scontrol", "release", old.job)
    _until(lambda: not nodes.call("squeue", "--noheader"))
    assert "this job is no longer wanted" in run.log.read_text()
    assert run.written_status == before


def test_two_who_send_at_the_same_moment_get_an_experiment_each(phantoms, nodes):
    with ThreadPoolExecutor(2) as pool:
        sent = list(pool.map(lambda _: _held(phantoms, ("accuracy", "iou", "dice")), range(2)))
    runs = [run for some in sent for run in some]
    assert len({some[0].config.experiment for some in sent}) == 2
    assert len({run.placed.ticket for run in runs}) == len({run.placed.job for run in runs}) == 6
    assert {run.status.state for run in runs} == {"queued"}


def test_of_two_who_resume_a_run_at_once_one_does(phantoms, nodes):
    [run] = _held(phantoms)
    jobs.stop(run)

    def resume(_: int) -> str:
        try:
            jobs.resume(run)
        except RunError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(resume, range(4)))
    assert said.count("") == 1, said
    assert len(nodes.call("squeue", "--noheader").splitlines()) == 1


@pytest.mark.training
@pytest.mark.timeout(1500)
def test_what_a_cluster_does_to_trainings_changes_no_curve(phantoms, nodes: Cluster):
    """Two run side by side. One is told that its time is up, and goes on in another job. The node of the other one
    dies, so that it goes on elsewhere; then it is cancelled from outside, is lost, and is resumed."""
    [timed] = jobs.train(phantoms, ["dice"], epochs=9, place="two", **TINY)
    [killed] = jobs.train(phantoms, ["dice"], epochs=9, place="two", **TINY)
    both = [timed, killed]

    def look() -> object:
        return [(run.status, run.placed, run.log.read_text()[-600:]) for run in both], nodes.call("squeue")

    _until(lambda: all(run.status.state == "running" for run in both), 300, look)
    assert nodes.busy_nodes() == {"n1", "n2"}

    job = timed.placed.job
    _until(lambda: timed.status.epoch >= 1, 300, look)
    nodes.call("scancel", "--batch", "--signal=USR1", job)
    _until(lambda: timed.placed.job != job, 120, look)
    assert "the time of its job was up, sent again" in timed.written_status.reason or timed.written_status.epoch

    _until(lambda: killed.status.epoch >= 1, 300, look)
    job, done = killed.placed.job, killed.written_status.epoch
    node = slurm.listed(killed.folder, killed.placed).node  # type: ignore[union-attr]
    nodes.kill_node(node, job)
    _until(lambda: killed.status.state == "queued", 120, look)
    assert killed.placed.job == job, "SLURM has put it back"
    _until(lambda: killed.status.epoch > done, 400, look)
    assert nodes.busy_nodes() <= {"n1", "n2"} - {node}
    nodes.start_node(node)

    nodes.call("scancel", job)
    _until(lambda: killed.status.state == "lost", 120, look)
    jobs.resume(killed)
    jobs.wait(both)
    for run in both:
        assert run.status.state == "finished", run.log.read_text()
        assert len(run.history()) == 9
        assert run.log.read_text().count("resumed after epoch") >= 1
        assert run.onnx.exists()
    for one, other in zip(timed.history(), killed.history(), strict=True):
        for name in set(one) - {"seconds", "total_seconds"}:
            assert other[name] == pytest.approx(one[name], abs=1e-6), (one["epoch"], name)


@pytest.fixture
def sleeping(phantoms: str, nodes: Cluster, checkpoints_folder: Path, tmp_path: Path) -> Run:
    """A run whose job runs, and only sleeps."""
    script = tmp_path / "sleeper"
    script.write_text("#!/bin/sh\nexec sleep 300\n")
    script.chmod(0o755)
    _place(checkpoints_folder, f"[sleep]\npython = '{script}'\n")
    [run] = jobs.train(phantoms, ["dice"], place="sleep", **TINY)  # type: ignore[arg-type]
    _until(lambda: slurm.listed(run.folder, run.placed).state == "RUNNING")  # type: ignore[union-attr]
    return run


def test_what_slurm_says_of_the_end_of_a_job_is_told(sleeping: Run, nodes: Cluster):
    """Such as that it took too much memory, or that somebody has cancelled it."""
    status = dataclasses.replace(sleeping.written_status, state="running", pid=1)
    sleeping.write_status(status)
    nodes.call("scancel", sleeping.placed.job)
    _until(lambda: sleeping.status.state == "lost")
    assert f"JOB {sleeping.placed.job} ON n" in sleeping.status.reason
    assert "CANCELLED" in sleeping.status.reason


def test_a_run_that_another_machine_is_about_to_send_is_not_lost_yet(phantoms, nodes):
    [run] = _held(phantoms)
    write_placed(run.folder, dataclasses.replace(run.placed, ticket="", job=""))
    run.write_status(dataclasses.replace(run.written_status, process="another/1/1"))
    assert run.status.state == "queued"
    _until(lambda: run.status.state == "lost")


def test_where_nodes_cannot_send_jobs_the_same_one_is_put_back(sleeping: Run, monkeypatch: pytest.MonkeyPatch):
    """Some sites let no node send jobs."""
    before = sleeping.placed

    def refused(*_: object) -> None:
        raise PlaceError("place sleep", "sbatch: Access denied")

    monkeypatch.setattr(slurm, "submit", refused)
    monkeypatch.setenv("SLURM_JOB_ID", before.job)
    worker.send_again(sleeping)
    _until(lambda: slurm.listed(sleeping.folder, before).pending)  # type: ignore[union-attr]
    assert sleeping.placed == before
    assert sleeping.status.state == "queued"


def test_a_node_that_can_neither_send_nor_put_back_says_so(sleeping: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    told = worker.Told(job=True, progressed=lambda: True)
    told.time_is_up = True
    with Heart(sleeping, dataclasses.replace(sleeping.written_status, state="running", epoch=3)) as heart:
        state, reason = worker.on_with_it(sleeping, heart, told)
    assert state == "stopped"
    assert "the time of its job was up, and it cannot be sent again from" in reason
    assert "no command sbatch" in reason
    assert sleeping.written_status.state == "stopped", "and can be resumed"
    assert sleeping.placed.job, "its place is as it was"


def test_a_job_too_short_for_an_epoch_does_not_begin_for_ever(sleeping: Run):
    told = worker.Told(job=True)
    told.time_is_up = True
    before = sleeping.placed
    with Heart(sleeping, dataclasses.replace(sleeping.written_status, state="running")) as heart:
        state, reason = worker.on_with_it(sleeping, heart, told)
    assert (state, sleeping.placed) == ("stopped", before)
    assert "give its place more `time`" in reason


def test_a_job_whose_time_will_be_up_ends_as_soon_as_it_has_done_an_epoch(monkeypatch: pytest.MonkeyPatch):
    """SLURM looks at limits every half a minute: of a job of one minute that may be half of its time."""
    done: list[int] = []
    told = worker.Told(job=True, progressed=lambda: bool(done))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        told.listen()
        signal.raise_signal(signal.SIGUSR1)
        assert not told.is_set()
        done.append(1)
        assert told.is_set()
        assert told.time_is_up
        done.clear()
        signal.raise_signal(signal.SIGTERM)
        assert told.is_set(), "now it has to"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_lines_before_the_interpreter_and_a_backend_that_is_missing(nodes, checkpoints_folder, data_folder):
    data_folder.mkdir()
    _place(checkpoints_folder, "[other]\nsetup = ['export KERAS_BACKEND=nothing_of_this_name']\n")
    wrong = [one for one in place_check.check("other") if one.wrong]
    assert [one.what for one in wrong] == ["backend"]
    assert wrong[0].found.startswith("nothing_of_this_name is not installed in")


def test_a_partition_that_is_down_lets_runs_wait_and_the_check_says_so(phantoms, nodes, checkpoints_folder):
    _place(checkpoints_folder, "[down]\npartition = 'down'\n")
    [run] = jobs.train(phantoms, ["dice"], place="down", **TINY)
    assert run.status.state == "queued"
    _until(lambda: run.status.reason == "waits in SLURM's queue: PartitionDown", 30, lambda: run.status)
    [_, node] = place_check.check("down", patience=1.0)
    assert "has not begun: PartitionDown" in node.found
    assert not node.wrong, "it may be up tomorrow"
    _until(lambda: len(nodes.call("squeue", "--noheader").splitlines()) == 1)
