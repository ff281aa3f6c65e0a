"""What a browser sends, put on disk at once: `<data>/uploads/<id>/`, one folder an upload, until it is imported.

Names come from strangers' computers: each becomes a path below the upload's own folder, or is refused.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np

from covseg_core.data.library import importing
from covseg_core.data.library.datasets import list_datasets
from covseg_core.data.library.pairing import is_nifti, pair
from covseg_core.data.library.revision import Role
from covseg_core.data.library.revisions import read_revision
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError, DatasetError, PairingError, SettingError
from covseg_core.files import safe_name
from covseg_core.isolation import Limits, isolated
from covseg_core.paths import data_root
from covseg_core.progress import Progress
from dashboard.services import upload_receiver
from dashboard.services.upload_receiver import ROOM, UploadedFile, uploads_root

KEPT_HOURS = 24
"""Uploads that nobody imported are removed after this long."""
_CHUNK = 2**20


@dataclass(frozen=True)
class Upload:
    """The files of one upload, on disk."""

    id: str

    @property
    def folder(self) -> Path:
        """Its own folder. What is in it carries the upload's name, for scans called nothing but `ct.nii.gz`."""
        return uploads_root() / safe_name(self.id, "upload") / f"upload-{self.id[:6]}"

    @property
    def files(self) -> list[Path]:
        """All files, by name."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def sources(self) -> list[Path]:
        """What `import_dataset` is to look at: zips, folders that were uploaded whole, and single files."""
        top = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        zips = [path for path in self.files if path.suffix.lower() == ".zip"]
        folders = [path for path in top if path.is_dir() and any(map(importing.is_volume, path.rglob("*")))]
        return zips + folders + [path for path in top if importing.is_volume(path)]

    def summary(self) -> tuple[str, str]:
        """What there is, in words, and what does not fit together, as far as names tell; zips and DICOM stay closed."""
        niftis = {path: self._name(path) for path in self.files if is_nifti(path)}
        zips = [path for path in self.files if path.suffix.lower() == ".zip"]
        dicom = sum(importing.is_volume(path) for path in self.files if path not in niftis and path not in zips)
        others = len(self.files) - len(niftis) - len(zips) - dicom
        kinds = ((dicom, "DICOM file"), (len(zips), "zip"), (others, "other file"))
        extra = [_counted(count, word) for count, word in kinds if count]
        if zips or dicom or not niftis:
            counted = [_counted(len(niftis), "NIfTI file")] if niftis else []
            problem = "" if zips or dicom else "There is no NIfTI file, no DICOM file and no zip"
            return ", ".join(counted + extra), problem
        try:
            groups = pair(niftis)
        except PairingError as error:
            return ", ".join([_counted(len(niftis), "NIfTI file"), *extra]), self._bare(str(error))
        infection, lung = (sum(getattr(group, role) is not None for group in groups) for role in ("infection", "lung"))
        counts = {"scan": len(groups), "infection mask": infection, "lung mask": lung}
        words = [_counted(count, word) for word, count in counts.items()]
        return ", ".join(words + extra), "" if infection or lung else "There is no mask"

    def _name(self, path: Path) -> PurePath:
        """As `import_dataset` will see it."""
        inside = path.relative_to(self.folder)
        return inside if len(inside.parts) > 1 else PurePath(self.folder.name, inside)

    def add(self, uploaded: Sequence[UploadedFile]) -> None:
        """Take files over from the browser; all or none.

        Raises
        ------
        CovsegError : a name that cannot be used or is there already, an empty file, no room on disk
        """
        written: list[Path] = []
        try:
            targets = self._targets(uploaded)
            for file in uploaded:
                upload_receiver.find(file)
            check_room(sum(file.size for file in uploaded))
            for file, target in zip(uploaded, targets, strict=True):
                written.append(target)
                _take(file, target)
        except BaseException as error:
            for path in written:
                path.unlink(missing_ok=True)
            for file in uploaded:
                upload_receiver.forget(file)
            if isinstance(error, OSError):
                raise DatasetError(error.filename or "upload", error.strerror or str(error), "room on disk") from None
            raise

    def _targets(self, uploaded: Sequence[UploadedFile]) -> list[Path]:
        targets = [self.folder / _inside(file.name) for file in uploaded]
        for number, target in enumerate(targets):
            if target.exists() or target in targets[:number]:
                wanted = "each name once; files of one name in several folders: upload the folder that holds them"
                raise DatasetError(str(target.relative_to(self.folder)), "there are two files of this name", wanted)
        return targets

    def discard(self) -> None:
        """Remove it; no matter if it is gone."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def import_as(
        self,
        name: str,
        labels: Sequence[int] | None = None,
        scale: Scale | None = None,
        allow_empty: bool = False,
        pseudonyms: bool = False,
    ) -> Callable[[Any, threading.Event], str]:
        """The work of a task: `import_dataset`. The upload is removed unless there is something to mend.

        The work returns the name of the dataset, and raises what `import_dataset` does, with files called as the user
        calls them.
        """

        def work(progress: Progress, cancelled: threading.Event) -> str:
            try:
                check_room(self.bytes)  # for the copies
                words = f"upload of {len(self.files)} files"
                # what strangers' files do is done in another process
                isolated(
                    functools.partial(importing.import_dataset, pseudonyms=pseudonyms),
                    *(name, self.sources, labels, scale, allow_empty, words),
                    named="upload",
                    limits=Limits.of(self.bytes),
                    progress=progress,
                    cancel=cancelled,
                )
            except CovsegError as error:
                raise self.in_users_words(error) from None
            except BaseException:
                self.discard()
                raise
            self.discard()
            return name

        return work

    def in_users_words(self, error: CovsegError) -> CovsegError:
        """The same error, with files called as the user calls them."""
        return type(error)(*(self._bare(text) for text in (error.what, error.found, error.expected)))

    def _bare(self, text: str) -> str:
        """Without the folders that the user knows nothing of."""
        return text.replace(f"{self.folder}{os.sep}", "").replace(f"{self.folder.name}{os.sep}", "")


def new_upload() -> Upload:
    """An upload without files; what others left long ago is removed on the way."""
    remove_old()
    return Upload(uuid.uuid4().hex)


def read_mask(file: UploadedFile, dataset: str, case: str, role: Role) -> np.ndarray:
    """A corrected mask from a file that was uploaded, (Z, Y, X) uint8 0/1; nothing of the file stays.

    Raises
    ------
    CovsegError : as `read_revision`, or as `Upload.add`
    """
    upload = new_upload()
    try:
        upload.add([file])
        # what strangers' files do is done in another process
        mask, _ = isolated(
            read_revision,
            *(dataset, case, upload.files[0], role),
            named=file.name,
            limits=Limits.of(upload.bytes),
        )
    except CovsegError as error:
        raise upload.in_users_words(error) from None
    finally:
        upload.discard()
    return mask


def find_upload(id: str | None) -> Upload | None:
    """The upload, if it still is on disk."""
    if not id or not re.fullmatch("[0-9a-f]{32}", id):
        return None
    upload = Upload(id)
    return upload if upload.folder.is_dir() else None


def free_name(upload: Upload) -> str:
    """A name for the dataset: that of the folder or zip that was uploaded, with a number if it is taken."""
    sources = upload.sources
    stem = sources[0].name.partition(".")[0] if len(sources) == 1 and not is_nifti(sources[0]) else "my-scans"
    name = re.sub("[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:60] or "my-scans"
    taken, number, candidate = {one.lower() for one in list_datasets()}, 1, name
    while candidate.lower() in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def parse_labels(text: str) -> tuple[int, ...] | None:
    """`1, 2` as numbers; None for nothing.

    Raises
    ------
    SettingError : anything else than numbers above 0
    """
    if not text.strip():
        return None
    parts = re.split(r"[,;\s]+", text.strip())
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SettingError("labels", repr(text), "whole numbers above 0 with commas, such as 1, 2")
    return tuple(int(part) for part in parts)


def remove_old(hours: float = KEPT_HOURS) -> None:
    """Remove uploads that were never imported."""
    for path in uploads_root().glob("*"):
        try:
            if time.time() - path.stat().st_mtime > hours * 3600:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue


def check_room(size: int) -> None:
    """Raise unless `size` bytes fit on the disk of the data.

    Raises
    ------
    DatasetError : it does not; says how much is missing
    """
    there = next(folder for folder in (data_root(), *data_root().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if size + ROOM > free:
        missing = (size + ROOM - free) / 1e6
        raise DatasetError(data_root(), f"{free / 1e6:,.0f} MB free on this disk", f"{missing:,.0f} MB more")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _inside(name: str) -> PurePosixPath:
    """An uploaded name as a relative path that stays where it is put.

    >>> str(_inside("ct20/case 1/ct.nii.gz")), str(_inside("C:\\\\scans\\\\ct.nii"))
    ('ct20/case 1/ct.nii.gz', 'scans/ct.nii')
    """
    parts = [
        part for part in re.split(r"[/\\\\]+", name) if part not in ("", ".") and not re.fullmatch("[A-Za-z]:", part)
    ]
    fits = all(part.isprintable() and len(part.encode(errors="replace")) <= 200 for part in parts)
    if not parts or ".." in parts or len(parts) > 20 or not fits:
        raise DatasetError(repr(name), "a name that cannot be used", "names of up to 200 printable characters")
    return PurePosixPath(*parts)


def _take(file: UploadedFile, target: Path) -> None:
    """One file to its place: moved if the server has put it on disk already, else copied piece by piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    received = upload_receiver.find(file)
    if received is not None:
        os.replace(received, target)
        size = target.stat().st_size
    else:
        with open(target, "xb") as sink:
            shutil.copyfileobj(file, sink, _CHUNK)
        size = file.size
    if not size and not (is_nifti(target) or target.suffix.lower() in (".zip", ".dcm")):
        target.unlink()  # a folder has all kinds of files
    elif not size:
        raise DatasetError(file.name, "an empty file", "a scan, a mask or a zip")
