"""Work in another process, with limits. What a user loses otherwise: the dashboard of a whole group, by one file."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from covseg_core import isolation
from covseg_core.data.reading.opening import SeriesChoice
from covseg_core.errors import Cancelled, CovsegError, ScanError, SettingError
from covseg_core.files import safe_name
from covseg_core.isolation import Fault, Limits, Worker, isolated, rest, warm
from covseg_core.temporary import TemporaryFolder, sweep, temporary_root

pytestmark = pytest.mark.usefixtures("data_folder")
SMALL = Limits(2**30, 20)


@pytest.fixture
def gone() -> Callable[[], bool]:
    """Whether no process is left of those that the test has started."""
    rest()  # of the tests before
    before = psutil.Process().children()
    return lambda: psutil.Process().children() == before


def test_a_result_comes_back_with_its_arrays_mapped() -> None:
    before = psutil.Process().memory_info().rss
    found = isolated(np.full, (50, 1024, 1024), 7, np.int16, named="x", limits=SMALL)
    assert found.shape == (50, 1024, 1024)
    assert found.dtype == np.int16
    assert psutil.Process().memory_info().rss - before < 20e6, "100 MB of voxels are in a file"
    found[0, 0, 0] = 1  # in memory only
    assert found[0, 0, 0] == 1
    assert (found[1:] == 7).all()
    assert not list(temporary_root().iterdir())


@pytest.mark.parametrize("value", [{"a": [1, "b"], "c": None}, [np.arange(5.0), np.zeros((0, 3)), np.eye(3)[::-1]]])
def test_what_comes_back_is_what_was_made(value: object) -> None:
    found = isolated(list, [value], named="x", limits=SMALL)
    np.testing.assert_equal(found, [value])


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (np.ones, (2**34,), r"^ct: needs more memory to read than the 1,024 MiB that a file of this size may take;"),
        (bytearray, (2**32,), "needs more memory"),
        (sum, (range(10**14),), r"^ct: takes longer to read than the 1 s that a file of this size may take;"),
        (os.abort, (), r"^ct: reading it ends the process \(exit code -6\);"),
        (os.kill, (0, signal.SIGKILL), "was killed, as by a machine without memory"),
    ],
)
def test_a_process_that_takes_too_much_is_one_line(
    function: Callable, arguments: tuple, words: str, gone: Callable[[], bool]
) -> None:
    started = time.monotonic()
    with pytest.raises(ScanError, match=words) as error:
        isolated(function, *arguments, named="ct", limits=Limits(2**30, 1))
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 60
    assert gone()
    assert not list(temporary_root().iterdir())


def test_an_error_for_the_user_is_the_same_error() -> None:
    with pytest.raises(SettingError, match=r"^name: 'a/b'; expected 1 to 100 of the characters") as error:
        isolated(safe_name, "a/b", named="x", limits=SMALL)
    assert (error.value.what, error.value.found) == ("name", "'a/b'")


def test_errors_that_know_more_can_be_told() -> None:
    told = pickle.loads(pickle.dumps(SeriesChoice(Path("x"), "two", "one", ())))
    assert (type(told), str(told), told.series) == (SeriesChoice, "x: two; expected one", ())


def test_a_bug_comes_with_its_traceback() -> None:
    with pytest.raises(Fault, match="ZeroDivisionError"):
        isolated(divmod, 1, 0, named="x", limits=SMALL)


def test_progress_is_told_and_ends_the_process_if_it_raises(gone: Callable[[], bool]) -> None:
    from covseg_core.data.library.importing import import_sample

    seen: list[tuple[int, int]] = []
    made = isolated(import_sample, "sample", 2, 32, named="x", limits=SMALL, progress=lambda *steps: seen.append(steps))
    assert len(made.cases) == 2
    assert seen == [(1, 2), (2, 2)]

    def stop(*_: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        isolated(import_sample, "other", 3, 32, named="x", limits=SMALL, progress=stop)
    assert gone()


def test_what_is_cancelled_ends_soon(gone: Callable[[], bool]) -> None:
    cancel = threading.Event()
    threading.Timer(1, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        isolated(time.sleep, 600, named="x", limits=SMALL, cancel=cancel)
    assert time.monotonic() - started < 30
    assert gone()


def test_a_process_that_waits_for_work_takes_the_next(gone: Callable[[], bool]) -> None:
    warm("json")
    for _ in range(2):  # also the second call finds one
        until(lambda: isolation._spare)
        [waiting] = isolation._spare
        assert waiting.process.args[-1] == "json"  # type: ignore[index]
        assert isolated(os.getpid, named="x", limits=SMALL) == waiting.process.pid
    until(lambda: isolation._spare)
    isolation._spare[0].process.kill()  # as a machine without memory does
    isolation._spare[0].process.wait()
    assert isolated(os.getppid, named="x", limits=SMALL) == os.getpid()
    until(lambda: isolation._spare)
    isolation.rest()
    assert gone()


def test_none_waits_where_nobody_asked_for_it(gone: Callable[[], bool]) -> None:
    """In the command line it would wait in vain, and after `rest` for ever."""
    assert isolated(len, "abc", named="x", limits=SMALL) == 3
    warm()
    rest()
    with pytest.raises(SettingError):
        isolated(safe_name, "a/b", named="x", limits=SMALL)
    assert not [thread for thread in threading.enumerate() if thread.name == "covseg-isolation"]
    assert not isolation._spare
    assert gone()


def test_one_waits_again_after_an_error() -> None:
    warm()
    with pytest.raises(SettingError):
        isolated(safe_name, "a/b", named="x", limits=SMALL)
    until(lambda: isolation._spare)
    rest()


def test_a_worker_answers_one_call_after_another_and_dies_alone(gone: Callable[[], bool]) -> None:
    """Models are loaded once, and a scan that crashes costs itself."""
    worker = Worker("json")
    try:
        first = worker.call(os.getpid, named="a", limits=SMALL)
        assert worker.call(np.full, (2, 3), 7, named="a", limits=SMALL).tolist() == [[7, 7, 7], [7, 7, 7]]
        with pytest.raises(SettingError):
            worker.call(safe_name, "a/b", named="a", limits=SMALL)
        with pytest.raises(Fault, match="ZeroDivisionError"):
            worker.call(divmod, 1, 0, named="a", limits=SMALL)
        assert worker.call(os.getpid, named="a", limits=SMALL) == first
        with pytest.raises(ScanError, match=r"^b: reading it ends the process \(exit code -6\);"):
            worker.call(os.abort, named="b", limits=SMALL)
        with pytest.raises(ScanError, match="^c: needs more memory"):
            worker.call(bytearray, 2**32, named="c", limits=SMALL)
        assert worker.call(os.getpid, named="d", limits=SMALL) != first
        cancel = threading.Event()
        threading.Timer(0.5, cancel.set).start()
        with pytest.raises(Cancelled):
            worker.call(time.sleep, 600, named="e", limits=SMALL, cancel=cancel)
    finally:
        worker.end()
    assert gone()
    assert not list(temporary_root().iterdir())


def test_a_process_ends_with_the_one_that_asks(tmp_path: Path) -> None:
    """Else it would go on computing for nobody, and write into a folder that another call works in."""
    code = (
        "import os, sys, threading, time\nfrom covseg_core.isolation import Limits, Worker\nworker = Worker()\n"
        "worker.start()\nprint(worker._child.process.pid, flush=True)\n"
        "worker.call(time.sleep, 600, named='x', limits=Limits(2**30, 20))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        number = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until(lambda: not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE)


def until(condition: Callable[[], object]) -> None:
    """It is started in a thread, so that nobody waits for it."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_limits_follow_from_the_files_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_machine_memory", lambda: 2**36)
    assert Limits.of(10_000_000).memory < 1.6e9
    assert Limits.of(10_000_000).seconds == 20
    assert Limits.of(10**9).memory > 12e9
    monkeypatch.setattr(isolation, "_machine_memory", lambda: 2**31)
    assert Limits.of(10**9).memory == pytest.approx(0.6 * 2**31)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolation, "TemporaryFolder", lambda: _Gone(tmp_path))
    with pytest.raises(CovsegError, match=r"^scan: cannot be put on disk \(No such file"):
        isolated(np.ones, 5000, named="x", limits=SMALL)


class _Gone:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        return self.path / "gone"

    def __exit__(self, *_: object) -> None:
        pass


def test_temporary_folders_are_ours_alone_and_go(data_folder: Path) -> None:
    with TemporaryFolder() as folder:
        assert folder.is_relative_to(data_folder)
        assert {oct(path.stat().st_mode & 0o777) for path in (folder, folder.parent)} == {"0o700"}
        (folder / "scan").write_bytes(b"patient")
        sweep()
        assert (folder / "scan").exists(), "its process lives"
    assert not list(temporary_root().iterdir())


def test_what_a_killed_process_left_is_swept() -> None:
    code = (
        "import os, signal\nfrom covseg_core.temporary import TemporaryFolder\n"
        "with TemporaryFolder() as folder:\n    (folder / 'scan').write_bytes(b'patient')\n"
        "    os.kill(0, signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, start_new_session=True)
    assert len(list(temporary_root().rglob("scan"))) == 1
    sweep()
    assert not list(temporary_root().iterdir())


def test_without_a_folder_to_write_to_the_systems_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("COVSEG_DATA", str(tmp_path / "file"))
    with TemporaryFolder() as folder:
        (folder / "x").write_bytes(b"x")
    assert not folder.parent.exists()
