"""The masks of many scans, one after another on each core, with a table at the end."""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covseg_core.errors import Cancelled, CovsegError, RunError, SettingError
from covseg_core.isolation import Fault, Worker
from covseg_core.prediction.cohort.figures import Figures
from covseg_core.prediction.cohort.found import Found, FoundScan, finding
from covseg_core.prediction.cohort.names import THUMBNAILS, Source, Sources, name_scans, number_patients, read_sources
from covseg_core.prediction.cohort.one import predict_one
from covseg_core.prediction.cohort.page import PAGE, make_page
from covseg_core.prediction.cohort.processes import Processes, plan
from covseg_core.prediction.cohort.state import (
    Cohort,
    NoRoom,
    Row,
    empty_cohort,
    owned,
    read_cohort,
    settings_of,
    write_cohort,
    write_file,
)
from covseg_core.prediction.cohort.table import TABLE, make_table
from covseg_core.prediction.inference import Cancel
from covseg_core.prediction.output.folder import REPORT, check_output
from covseg_core.prediction.request import Request, check_request

_AHEAD = 2
"""Scans for each process whose files are read before it is free."""
_TICK = 0.2
"""Seconds between two looks at whether it was cancelled."""
_MODULES = ("covseg_core.prediction.cohort.one",)

_logger = logging.getLogger("covseg.cohort")


@dataclass(frozen=True)
class Step:
    """How far it is."""

    done: int
    """Scans that need not be looked at any more: predicted, failed, or there twice."""
    total: int
    row: Row | None = None
    """The scan that has just ended; None at the beginning."""
    where: tuple[str, str] = ("", "")
    """Where it lies, as `FoundScan.key`: to be told to the user and written nowhere."""
    seconds: float = 0.0
    """What it took."""
    seconds_left: float | None = None
    """By the speed so far; None as long as that says nothing."""
    notes: tuple[str, ...] = ()
    """At the beginning: what was passed over."""


Tell = Callable[[Step], None]


def predict_cohort(
    paths: Sequence[str | os.PathLike[str]],
    request: Request,
    output: str | os.PathLike[str],
    pseudonyms: bool = False,
    tell: Tell | None = None,
    cancel: Cancel | None = None,
    processes: int | None = None,
) -> Cohort:
    """Predict all scans below paths, each into a folder of its own in `output`, with `cohort.csv` and `cohort.html`.

    A scan that fails is a row that says why; the others go on. A second call with the same settings goes on where the
    first has ended, however that was: it predicts what is new, has changed, or has failed. What is there already stays.

    Parameters
    ----------
    paths : files, folders and zips; see `found`
    request : which models, and how; see `request.asked_for`
    output : a folder of one cohort
    pseudonyms : call scans `scan-001` and so on, in the order in which they are found
    tell : called at the beginning and after each scan, from the thread of the caller; may raise
    cancel : looked at a few times a second
    processes : how many scans are predicted at the same time; None for as many as cores and memory allow

    Raises
    ------
    SettingError : the folder cannot be used, holds a cohort with other settings, or another process works in it
    RunError : a model that cannot be used
    ScanError : a path that cannot be read, or no scan below any of them
    NoRoom : the disk is full; what was predicted is kept, and the next call goes on from there
    Cancelled : `cancel` was set; as after `NoRoom`
    """
    folder = Path(output)
    check_request(request)
    check_output(folder, ())
    settings = settings_of(request, pseudonyms)
    read_cohort(folder, settings)  # before anything takes time
    with finding(paths, folder) as found, owned(folder):
        before = read_cohort(folder, settings) or empty_cohort(settings)
        work = _Work(folder, before, found, request, tell)
        try:
            work.do(cancel, processes)
        except BaseException as error:
            work.close(_why(error))
            raise
        work.close("")
        return work.cohort


class _Work:
    """One call: what is known of each scan, and what becomes of those that wait."""

    def __init__(self, folder: Path, before: Cohort, found: Found, request: Request, tell: Tell | None) -> None:
        self._folder, self._request, self._tell, self._notes = folder, request, tell, found.notes
        self._settings = before.settings
        sources = read_sources(folder)
        self._earlier = earlier = {row.name: row for row in before.rows if _counts(row, sources)}
        known = {(source.place, source.series): name for name, source in sources.scans.items()}
        names = name_scans(found.scans, known, list(earlier), before.settings.pseudonyms)
        people = number_patients(found.scans, [earlier[name].patient if name in earlier else "" for name in names])
        self._scans = dict(zip(names, found.scans, strict=True))
        self._people = dict(zip(names, people, strict=True))
        self._rows: dict[str, Row] = {}
        """Of this call and of earlier ones, but for those that wait."""
        for name in names:
            if (row := self._finished(earlier.get(name), self._scans[name])) is not None:
                self._rows[name] = self._placed(row)
        self._rows |= {name: row for name, row in earlier.items() if name not in self._scans}  # of other paths
        self._waiting = [name for name in names if name not in self._rows]
        Sources(scans=sources.scans | {name: Source(*scan.key) for name, scan in self._scans.items()}).write(folder)
        self._digests = {row.sha256: name for name, row in self._rows.items() if row.state == "done"}
        self._began, self._predicted = time.monotonic(), 0

    @property
    def cohort(self) -> Cohort:
        """As it stands."""
        order = [*self._scans, *(name for name in self._rows if name not in self._scans)]
        rows = tuple(self._rows[name] for name in order if name in self._rows)
        return dataclasses.replace(empty_cohort(self._settings), rows=rows, notes=self._notes)

    def do(self, cancel: Cancel | None, processes: int | None) -> None:
        """Predict what waits; raises as `predict_cohort`."""
        self._say(Step(len(self._rows), self._total, notes=self._notes))
        waiting = iter(self._waiting)
        predictable = [self._scans[name] for name in self._waiting if not self._scans[name].problem]
        if not predictable:
            for name in waiting:
                self._end(self._failed(name, self._scans[name].problem))
            return
        many = plan(predictable, self._request, processes)
        with _crew(many, cancel) as ask:
            asked: dict[Future[Figures], tuple[str, str]] = {}
            while True:
                for name in waiting:
                    if digest := self._begin(name):
                        scan, picture = self._scans[name], self._folder / THUMBNAILS / f"{name}.jpg"
                        asked[ask(scan, self._request, self._folder / name, picture)] = name, digest
                    if len(asked) == _AHEAD * many.number:
                        break
                if not asked:
                    return
                done, _ = wait(asked, _TICK, FIRST_COMPLETED)
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                for future in sorted(done, key=lambda one: one.exception() is not None):  # what is done, first
                    self._take(future, *asked.pop(future))

    def close(self, stopped: str) -> None:
        """Write what people look at; where the disk is full, what was there stays."""
        cohort = dataclasses.replace(self.cohort, stopped=stopped)
        try:
            write_cohort(self._folder, cohort)
            write_file(self._folder / TABLE, make_table(cohort))
            write_file(self._folder / PAGE, make_page(cohort, self._folder))
        except CovsegError:
            if not stopped:
                raise

    @property
    def _total(self) -> int:
        return len(self._rows.keys() | self._scans.keys())

    def _finished(self, row: Row | None, scan: FoundScan) -> Row | None:
        """A row of an earlier call, if its scan need not be looked at again."""
        if row is None or row.state == "failed" or row.stamp != scan.stamp:
            return None
        return row if self._written(row.same_as or row.name) else None

    def _written(self, name: str) -> bool:
        return (self._folder / name / REPORT).is_file()

    def _placed(self, row: Row) -> Row:
        """With the patient and the day as they are known now."""
        patient, day = self._people[row.name]
        return dataclasses.replace(row, patient=patient, day=day)

    def _begin(self, name: str) -> str:
        """Read a scan's files; their SHA-256, or nothing if it need not or cannot be predicted, which is said then."""
        scan = self._scans[name]
        if scan.problem:
            self._end(self._failed(name, scan.problem))
            return ""
        try:
            digest = scan.digest()
        except OSError as error:
            self._end(self._failed(name, f"cannot be read ({error.strerror or error})"))
            return ""
        earlier = self._earlier.get(name)
        if earlier and earlier.state == "done" and earlier.sha256 == digest and self._written(name):
            self._digests[digest] = name
            self._end(self._placed(dataclasses.replace(earlier, stamp=scan.stamp)))  # only the files' date has changed
            return ""
        if (first := self._digests.setdefault(digest, name)) != name:
            self._end(self._placed(Row(name, "same", stamp=scan.stamp, sha256=digest, same_as=first)))
            return ""
        return digest

    def _take(self, future: Future[Figures], name: str, digest: str) -> None:
        """What came of a scan."""
        scan = self._scans[name]
        try:
            figures = future.result()
        except NoRoom:
            raise
        except CovsegError as error:
            if isinstance(error, RunError) and not self._predicted:  # no scan can be predicted with such a model
                raise
            row = self._failed(name, f"{error.found}; expected {error.expected}" if error.expected else error.found)
        except Fault as error:
            _logger.error("%s: %s", name, error)
            kind = str(error).strip().splitlines()[-1].partition(":")[0]  # the rest may name files
            row = self._failed(name, f"a fault in covseg ({kind})")
        else:
            row = self._placed(Row(name, "done", stamp=scan.stamp, sha256=digest, figures=figures))
            self._predicted += 1
        if row.state == "failed":  # another scan with the same voxels is to tell its own story
            self._digests.pop(digest, None)
        self._end(row)

    def _failed(self, name: str, problem: str) -> Row:
        return self._placed(Row(name, "failed", stamp=self._scans[name].stamp, problem=problem))

    def _end(self, row: Row) -> None:
        """Remember and tell it."""
        self._rows[row.name] = row
        write_cohort(self._folder, dataclasses.replace(self.cohort, stopped="not finished"))
        seconds = row.figures.seconds if row.figures else 0.0
        left = self._total - len(self._rows)
        spent = time.monotonic() - self._began
        estimate = spent / self._predicted * left if self._predicted and left else None
        self._say(Step(len(self._rows), self._total, row, self._scans[row.name].key, seconds, estimate))

    def _say(self, step: Step) -> None:
        if self._tell is not None:
            self._tell(step)


def _counts(row: Row, sources: Sources) -> bool:
    """Whether a row of an earlier call still says something: not if it failed and its files have been removed since."""
    source = sources.scans.get(row.name)
    return row.state != "failed" or (source is not None and Path(source.place.partition("!")[0]).exists())


Ask = Callable[[FoundScan, Request, Path, Path], "Future[Figures]"]


@contextmanager
def _crew(many: Processes, cancel: Cancel | None) -> Iterator[Ask]:
    """A way to have scans predicted, by so many processes; what was not begun at the end is not begun any more."""
    workers = [Worker(*_MODULES) for _ in range(many.number)]
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        worker.start()
        free.put(worker)
    ended = _Either(cancel)

    def predict(scan: FoundScan, request: Request, folder: Path, picture: Path) -> Figures:
        worker = free.get()
        try:
            return worker.call(
                predict_one, scan, request, folder, picture, many.cores,
                named=folder.name, limits=many.limits, cancel=ended,
            )  # fmt: skip
        finally:
            free.put(worker)

    threads = ThreadPoolExecutor(many.number, "covseg-cohort")
    try:
        yield lambda *what: threads.submit(predict, *what)
    except BaseException:
        ended.set()
        raise
    finally:
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.end()


class _Either:
    """Set by itself or by another."""

    def __init__(self, other: Cancel | None) -> None:
        self._own, self._other = threading.Event(), other
        self.set = self._own.set

    def is_set(self) -> bool:
        """Whether one of the two is."""
        return self._own.is_set() or (self._other is not None and self._other.is_set())


def _why(error: BaseException) -> str:
    """What `cohort.json` says about a call that has not finished."""
    if isinstance(error, NoRoom):
        return "the disk is full: the same call goes on once there is room"
    if isinstance(error, SettingError | RunError):
        return error.found
    return "not finished: the same call goes on"
