"""Which scans lie below some paths: NIfTI files, pictures and DICOM series, at any depth and in zips.

What is no scan is passed over and counted; what should be one and cannot be used is named with the reason. No voxel is
read here.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePath

from covseg_core.data.library.pairing import is_nifti, role_of
from covseg_core.data.reading import dicom
from covseg_core.data.reading.dicom import Series, series_of
from covseg_core.data.reading.dicom.dates import day_of
from covseg_core.data.reading.dicom.headers import files_below, headers_of
from covseg_core.data.reading.opening import Opened, kind_of, open_scan, open_series, sha256_files, unpack
from covseg_core.errors import ScanError
from covseg_core.files import sha256_file
from covseg_core.prediction.output.files import DISAGREEMENT
from covseg_core.prediction.output.folder import REPORT
from covseg_core.temporary import TemporaryFolder

_PICTURES = (".png", ".jpg", ".jpeg")
_MOST_REASONS = 5
"""Reasons for passing over that are named."""


@dataclass(frozen=True, eq=False)
class FoundScan:
    """One scan, not read yet. Other processes can be told."""

    path: Path
    """The file, or a folder that holds the files of a series. Gone with a zip's temporary folder."""
    place: str
    """Where it lies, for people and to know it again: the path, in a zip the zip's and its own."""
    name: PurePath
    """The file's name and those of the folders above it, as far as they say what it is."""
    stamp: str
    """Changes when its files do."""
    size: int
    """Of its files [bytes]."""
    series: Series | None = None
    """Of DICOM."""
    damaged: int = 0
    """Damaged DICOM files beside those of the series."""
    day: date | None = field(default=None, repr=False)
    """On which it was taken, where it says so; nothing that is written may tell more than differences."""
    problem: str = ""
    """Why it cannot be used, if that is known already."""

    @property
    def key(self) -> tuple[str, str]:
        """By which it is known again: its place, and the key of the series."""
        return self.place, self.series.key if self.series else ""

    @property
    def patient(self) -> str:
        """Hash of the patient's id, which may be written nowhere; "" where nothing says who it is."""
        return self.series.patient if self.series else ""

    def digest(self) -> str:
        """`Opened.sha256`, without opening it. Its files are in the system's memory then."""
        return sha256_files(self.series.files) if self.series else sha256_file(self.path)

    def open(self) -> Opened:
        """Read it; raises as `open_scan` does."""
        if self.series is None:
            return open_scan(self.path)
        return open_series(dicom.Found((self.series,), 0, self.damaged), self.path)


@dataclass(frozen=True, eq=False)
class Found:
    """What lies below the paths."""

    scans: tuple[FoundScan, ...]
    notes: tuple[str, ...]
    """What was passed over, one line each."""


@contextmanager
def finding(paths: Sequence[str | os.PathLike[str]], leave_out: Path | None = None) -> Iterator[Found]:
    """The scans below paths, in their order and by name; zips are unpacked for as long as the `with` statement lasts.

    Parameters
    ----------
    paths : files, folders and zips. In a file that is named itself its own name tells whether it is a mask, in a folder
        those of its folders do so as well
    leave_out : a folder that is not looked at: where results go

    Raises
    ------
    ScanError : a path that is not there or cannot be read; no scan at all, and why
    """
    with ExitStack() as stack:
        search = _Search(stack, leave_out.resolve() if leave_out else None)
        for path in map(Path, paths):
            search.look_at(path)
        if not search.scans:
            what = Path(paths[0]) if len(paths) == 1 else f"{len(paths)} paths"
            raise ScanError(what, f"no scan{f', but {search.words}' if search.words else ''}", "NIfTI or DICOM of CT")
        yield Found(tuple(search.scans), search.notes)


class _Search:
    """Through one path after another."""

    def __init__(self, stack: ExitStack, leave_out: Path | None) -> None:
        self.scans: list[FoundScan] = []
        self._stack, self._leave_out = stack, leave_out
        self._temporary: Path | None = None
        self._unpacked = 0
        self._keys: set[tuple[str, str]] = set()
        self._masks = self._others = 0
        self._kinds: Counter[str] = Counter()
        """Series that are something else than a CT, by what they are."""

    @property
    def notes(self) -> tuple[str, ...]:
        found = []
        if self._masks:
            found.append(f"{_counted(self._masks, 'mask')} passed over, by the names of files and folders")
        if self._others:
            found.append(f"{_counted(self._others, 'file')} that {'is' if self._others == 1 else 'are'} no scan")
        if self._kinds:
            kinds = [f"{kind} ({count:,})" for kind, count in self._kinds.most_common(_MOST_REASONS)]
            more = f" and {len(self._kinds) - _MOST_REASONS} other kinds" if len(self._kinds) > _MOST_REASONS else ""
            found.append(f"{_counted(self._kinds.total(), 'DICOM series', '')} passed over: {', '.join(kinds)}{more}")
        return tuple(found)

    @property
    def words(self) -> str:
        return "; ".join(self.notes)

    def look_at(self, path: Path) -> None:
        """One of the paths that the user named."""
        kind, place = kind_of(path), str(path.resolve())
        if kind == "folder":
            self._folder(path.resolve(), place)
        elif kind == "zip":
            self._zip(path, place)
        elif kind == "dicom":
            self._dicom([path.resolve()], path, place, lambda file: place)
        elif kind == "other" and not is_nifti(PurePath(path.name)):
            self._others += 1
        elif kind == "other" and role_of(PurePath(path.name)) != "scan":
            self._masks += 1
        else:
            name = PurePath(*path.resolve().parts[-2:])
            self._add(path.resolve(), place, name.with_suffix("") if kind == "picture" else name, path)

    def _folder(self, folder: Path, place: str, packed: Path | None = None) -> None:
        """All that is below a folder; `packed` is the zip that it comes from."""
        names = {file: PurePath(Path(place).stem if packed else folder.name, file.relative_to(folder))
                 for file in files_below(folder) if not self._left_out(file)}  # fmt: skip

        def place_of(file: Path) -> str:
            inside = str(file.relative_to(folder))
            return f"{place}!{inside}" if packed else str(file)

        niftis = [file for file in names if is_nifti(PurePath(file.name))]
        zips = [] if packed else [file for file in names if file.suffix.lower() == ".zip"]
        apart = {*niftis, *zips}
        rest = [file for file in names if file not in apart]
        for file in niftis:
            if role_of(names[file]) != "scan" or _is_result(file):
                self._masks += 1
            else:
                self._add(file, place_of(file), names[file], packed or file)
        before, others = len(self.scans), self._dicom(rest, folder, place, place_of, packed)
        pictures = [] if niftis or len(self.scans) > before else [file for file in rest if _is_picture(file)]
        for file in pictures:
            self._add(file, place_of(file), names[file].with_suffix(""), packed or file)
        self._others += others - len(pictures)
        for file in zips:
            self._zip(file, str(file))

    def _zip(self, path: Path, place: str) -> None:
        if self._temporary is None:
            self._temporary = self._stack.enter_context(TemporaryFolder())
        self._unpacked += 1
        folder = self._temporary / str(self._unpacked)
        try:
            unpack(path, folder)
        except ScanError as error:
            self._add(path, place, PurePath(path.stem), path, problem=_reason(error))
        else:
            self._folder(folder, place, path)

    def _dicom(
        self, files: list[Path], root: Path, place: str, place_of: Callable[[Path], str], packed: Path | None = None
    ) -> int:
        """The series among files; returns how many files are no DICOM."""
        found = headers_of(files, root)
        damaged = Counter(file.parent for file in found.damaged)
        for series in series_of(found.headers):
            if series.other_kind:
                self._kinds[series.problem] += 1
                continue
            folders = {file.parent for file in series.files}
            beside = sum(damaged.pop(folder, 0) for folder in folders)
            common = Path(os.path.commonpath(folders))
            stamped = [packed] if packed else list(series.files)
            where = place if common == root else place_of(common)
            self._add(common, where, PurePath(f"series-{series.key}"), *stamped, series=series, damaged=beside)
        for folder, count in damaged.items():
            where = place_of(folder) if folder != root else place
            problem = f"no readable DICOM slices, but {_counted(count, 'damaged file')}; expected complete DICOM files"
            self._add(folder, where, PurePath("damaged"), packed or folder, problem=problem)
        return found.others

    def _add(
        self,
        path: Path,
        place: str,
        name: PurePath,
        *stamped: Path,
        series: Series | None = None,
        damaged: int = 0,
        problem: str = "",
    ) -> None:
        """One more scan, unless it was found before, as by two paths of which one holds the other."""
        files = series.files if series else (path,)
        problem = series.problem if series else problem
        day = day_of(series.files[0]) if series and not problem else None
        size = sum(_size(file) for file in files)
        scan = FoundScan(path, place, name, _stamp(stamped), size, series, damaged, day, problem)
        if scan.key not in self._keys:
            self._keys.add(scan.key)
            self.scans.append(scan)

    def _left_out(self, file: Path) -> bool:
        return self._leave_out is not None and file.is_relative_to(self._leave_out)


def _is_result(file: Path) -> bool:
    """Whether it is the one file of an earlier prediction whose name does not say that it is a mask."""
    return file.name == DISAGREEMENT and (file.parent / REPORT).is_file()


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in _PICTURES and kind_of(file) == "picture"


def _reason(error: ScanError) -> str:
    return f"{error.found}; expected {error.expected}" if error.expected else error.found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _stamp(files: Iterable[Path]) -> str:
    """When files were changed and how large they are, without their names."""
    total = hashlib.sha256()
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        total.update(f"{status.st_mtime_ns} {status.st_size} ".encode())
    return total.hexdigest()[:32]


def _counted(count: int, word: str, plural: str = "s") -> str:
    return f"{count:,} {word}{plural * (count != 1)}"
