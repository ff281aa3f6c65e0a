"""A run whose worker lives is never taken for lost, nor one that is lost for living: its data would be deleted, or wait
for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError, RunError
from covseg_core.runs import Run, Status, create_run, delete_run, host, list_runs, liveness
from covseg_core.runs.liveness import WorkerLock, lock_held, process_lives, this_process

HOLDS = """
import sys, pathlib
from covseg_core.runs.liveness import WorkerLock, this_process
lock = WorkerLock(pathlib.Path(sys.argv[1]))
print(lock.take(), this_process(), flush=True)
sys.stdin.read()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="locks can be asked about on Linux only")


@pytest.fixture
def run() -> Run:
    return _run("run-1")


def _run(id: str) -> Run:
    config = RunConfig(id, "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
    return create_run(config, Split(SplitConfig(), {"a": (0, 1)}, {"b": (0,)}, {"c": (3,)}))


@pytest.fixture
def other(run: Run) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds the run's lock, and its name."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        taken, name = process.stdout.readline().split()
        assert taken == "True"
        yield process, name
        process.kill()


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def _written(run: Run, state: str = "running", on: str = "", process: str = "", heartbeat: float = 0.0) -> None:
    run.write_status(Status(state, host=on or host(), process=process, heartbeat=heartbeat))  # type: ignore[arg-type]


@linux
@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("on", ["", "another"])
def test_whose_lock_is_held_lives_whatever_its_status_says(run, other, state, on):
    _written(run, state, on)
    assert run.status.state == state
    _kill(other[0])
    _written(run, state)
    assert run.status.state == "lost"


@linux
def test_asking_keeps_no_worker_from_its_lock(run):
    """The Runs page asks all the time."""
    code = """
import sys, pathlib
from covseg_core.runs.liveness import lock_held
print(flush=True)
while True:
    lock_held(pathlib.Path(sys.argv[1]))
"""
    with subprocess.Popen([sys.executable, "-c", code, str(run.folder)], stdout=subprocess.PIPE) as asks:
        assert asks.stdout is not None
        asks.stdout.readline()
        for _ in range(300):
            lock = WorkerLock(run.folder)
            assert lock.take()
            lock.release()
        asks.kill()


@linux
def test_asking_writes_nothing(run):
    assert not lock_held(run.folder)
    assert not (run.folder / liveness.LOCK).exists()


@pytest.mark.parametrize("state", ["finished", "failed", "stopped"])
def test_a_run_is_not_deleted_while_its_lock_is_held_even_if_it_says_that_it_has_ended(run, other, state, monkeypatch):
    """Between its last word and its end a worker may still write."""
    monkeypatch.setattr("covseg_core.runs.run._PATIENCE", 0.1)
    _written(run, state)
    with pytest.raises(RunError, match="its worker still runs"):
        delete_run(run)
    assert run.folder.exists()
    _kill(other[0])
    delete_run(run)
    assert not run.folder.exists()


def test_of_many_who_delete_a_run_at_once_one_does_and_the_others_are_told():
    """Two people clean up."""
    for number in range(20):
        run = _run(f"run-{number}")
        _written(run, "finished")
        together = threading.Barrier(3)

        def delete(_: int, run: Run = run, together: threading.Barrier = together) -> bool:
            together.wait()
            try:
                delete_run(run)
            except CovsegError:
                return False
            return True

        with ThreadPoolExecutor(3) as pool:
            assert sorted(pool.map(delete, range(3))) == [False, False, True]
        assert list_runs() == []


def test_a_lock_goes_over_to_the_process_that_inherits_it(run):
    """At no moment a run in the queue is nobody's."""
    lock = WorkerLock(run.folder)
    assert lock.take()
    code = """
import sys, pathlib
from covseg_core.runs.liveness import WorkerLock
lock = WorkerLock(pathlib.Path(sys.argv[1]))
print(lock.adopt(int(sys.argv[2])), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(run.folder), str(lock.fd)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[lock.fd]) as heir:
        lock.hand_over()
        assert not WorkerLock(run.folder).take()
        assert heir.stdout is not None
        assert heir.stdout.readline() == b"True\n"
        assert not WorkerLock(run.folder).take()
        heir.kill()
        heir.wait()
    assert WorkerLock(run.folder).take()


def test_a_descriptor_of_another_file_is_not_adopted(run, tmp_path):
    (run.folder / liveness.LOCK).touch()
    with open(tmp_path / "file", "w") as file:
        assert not WorkerLock(run.folder).adopt(file.fileno())
    assert not WorkerLock(run.folder).adopt(999_999)


def test_a_lock_of_version_0_1_is_respected(run):
    """A training that was started before an update goes on after it."""
    with open(run.folder / liveness.LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not WorkerLock(run.folder).take()


def test_a_process_is_told_by_its_start_since_the_machine_was_started(other):
    process, name = other
    assert process_lives(this_process())
    assert process_lives(name)
    boot, number, start = name.split("/")
    assert not process_lives(f"{boot}/{number}/{start}1"), "its number is used again"
    assert not process_lives(f"another/{number}/{start}"), "another machine, or this one before it was started again"
    for nobody in ("", "//", "nonsense"):
        assert not process_lives(nobody)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not process_lives(name), "not collected yet: a zombie trains nothing"
    process.wait()
    assert not process_lives(name)


@linux
@pytest.mark.parametrize("known", ["no locks", "no shared locks"])
def test_a_run_of_another_computer_is_lost_only_after_it_was_silent_for_long_enough(run, monkeypatch, known):
    """Its clock says nothing here, and its lock may not be seen from here."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    if known == "no locks":
        monkeypatch.setattr(liveness, "lock_held", lambda folder: None)
    for beat in (5.0, 10.0, 1e12, 3.0):  # whatever its clock does
        _written(run, on="another", process="there/1/1", heartbeat=beat)
        assert run.status.state == "running"
        clock[0] += liveness.SILENT_AFTER - 1
        assert run.status.state == "running"
    clock[0] += 2
    assert run.status.state == "lost"


def test_who_deletes_a_run_of_another_computer_looks_on_first(run, monkeypatch):
    monkeypatch.setattr(liveness, "SILENT_AFTER", 0.5)
    _written(run, on="another", process="there/1/1", heartbeat=time.time() - 1e6)
    beats = iter(range(10**9))
    state = Run.written_status.fget

    def alive(self: Run) -> Status:
        return Status("running", host="another", process="there/1/1", heartbeat=next(beats))

    monkeypatch.setattr(Run, "written_status", property(alive))
    with pytest.raises(RunError, match="is running"):
        delete_run(run)
    monkeypatch.setattr(Run, "written_status", property(state))
    delete_run(run)
    assert not run.folder.exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_process_tells(run, other, monkeypatch, code):
    """Some network file systems have none."""

    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", fails)
    monkeypatch.setattr(fcntl, "fcntl", fails)
    lock = WorkerLock(run.folder)
    assert lock.take()
    lock.release()
    _written(run, process=other[1])
    assert run.status.state == "running"
    _kill(other[0])
    assert run.status.state == "lost"


def test_a_deleted_run_has_no_lock_to_be_taken(run, tmp_path):
    """Who was about to take it would resume what is no more."""
    opened = os.open

    def late(path: Path, *rest: int) -> int:
        descriptor = opened(path, *rest)
        run.folder.rename(tmp_path / "deleted")
        return descriptor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", late)
        taken = WorkerLock(run.folder).take()
    assert not taken
