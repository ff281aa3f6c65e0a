"""From files anywhere on disk to a dataset: pair, read and check everything, copy, and only then show it.

All work is done in a staging folder that is renamed at the end. Whatever goes wrong, up to a killed process, the
datasets are as they were before.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from covseg_core.data.library.cleaning import copy_without_words
from covseg_core.data.library.datasets import Case, Dataset, dataset_folder, datasets_root, load_dataset
from covseg_core.data.library.pairing import Group, case_id, is_nifti, pair, role_of
from covseg_core.data.library.pseudonyms import KEY, pseudonyms_of
from covseg_core.data.library.staging import staging
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError, DatasetError, PairingError, ScanError
from covseg_core.files import sha256_file, write_json
from covseg_core.progress import Progress
from covseg_core.temporary import TemporaryFolder

if TYPE_CHECKING:
    from covseg_core.data.library.dicom_files import DicomFiles

_FILES = {"scan": "ct", "infection": "infection_mask", "lung": "lung_mask"}
_THREADS = 2


def import_dataset(
    name: str,
    paths: Sequence[Path | str],
    labels: Sequence[int] | None = None,
    scale: Scale | None = None,
    allow_empty: bool = False,
    source: str | None = None,
    progress: Progress | None = None,
    pseudonyms: bool = False,
    complete: Callable[[Case], Case] | None = None,
) -> Dataset:
    """Make a dataset of scans and masks, or add cases to one.

    Parameters
    ----------
    name : of the dataset, new or existing
    paths : NIfTI and DICOM files, folders of them at any depth, or zips of such folders; see `pairing` for names
    labels : of the infection masks, those that count as infection; None for all above 0
    scale : of the scans' grey values, where it cannot be told from them
    allow_empty : take infection masks without any infection, which are otherwise refused as an export gone wrong
    source : where the files come from, in words; None for how many there are: paths name people
    progress : called after each case
    pseudonyms : call cases `case-001` and so on instead of what their files are called; see `pseudonyms`
    complete : puts into a case what else is known of it

    Returns
    -------
    Dataset : with all its cases, old and new

    Raises
    ------
    SettingError : `name` cannot be a folder's name
    DatasetError : nothing to import, a case that the dataset has already, or another import into it is running
    PairingError : scans and masks do not belong together, by name or by grid
    ScanError : a file that is not a chest CT or a mask
    """
    target = dataset_folder(name)
    try:
        with staging(datasets_root(), name) as folder:
            old = load_dataset(name) if target.exists() else None
            unzipped = folder / "zips"
            files = _find(paths, unzipped)
            try:
                groups, dicom = _groups(files)
                key = pseudonyms_of(groups, target) if pseudonyms else None
                groups = tuple(key.renamed(group) for group in groups) if key else groups
                _check_new(groups, old, name)
                work = functools.partial(_import_case, folder, labels, scale, allow_empty, dicom)
                cases = _import_all(groups, work, progress)
            except CovsegError as error:
                raise _without_folder(error, unzipped) from None
            if dicom and dicom.warnings:
                cases[0] = replace(cases[0], warnings=(*cases[0].warnings, *dicom.warnings))
            _check_copies(cases, old)
            cases = list(map(complete, cases)) if complete else cases
            if key:
                key.write(folder)
            return _publish(name, cases, old, source or f"{len(files)} files", folder)
    except OSError as error:
        raise DatasetError(error.filename or name, error.strerror or str(error), "room and permission") from None


def import_sample(
    name: str, scans: int = 6, size: int = 128, seed: int = 0, progress: Progress | None = None
) -> Dataset:
    """Make a dataset of synthetic chest phantoms; see `covseg_core.data.phantom.phantom`."""
    from covseg_core.data.phantom.phantom import write_sample

    with TemporaryFolder() as folder:
        cases = write_sample(folder, scans=scans, size=size, seed=seed)
        words = f"synthetic phantoms, seed {seed}, {size} px"
        return import_dataset(name, cases, scale="HU", allow_empty=True, source=words, progress=progress)


def is_volume(file: Path) -> bool:
    """Whether a file is NIfTI by its name or DICOM by its first bytes."""
    if is_nifti(file):
        return True
    if file.name.startswith(".") or not file.is_file():
        return False
    from covseg_core.data.reading.dicom.headers import looks_like_dicom

    with open(file, "rb") as stream:
        return looks_like_dicom(stream.read(132))


def _find(paths: Sequence[Path | str], unzipped: Path) -> dict[Path, PurePath]:
    """All NIfTI and DICOM files, each with its name from the folder on that the user gave."""
    files: dict[Path, PurePath] = {}
    for path in map(Path, paths):
        path = Path(os.path.abspath(path.expanduser()))
        if path.is_dir():
            root, found = path.parent, _walk(path)
        elif path.is_file() and path.suffix.lower() == ".zip":
            from covseg_core.data.reading.archives import extract_zip

            root = unzipped / str(len(files))
            extract_zip(path, root / path.stem)
            found = _walk(root)
        elif path.exists() and is_volume(path):
            root, found = path.parent.parent, [path]
        elif path.exists():
            expected = "a .nii or .nii.gz file, a DICOM file, a folder or a .zip"
            raise ScanError(path, "neither NIfTI by its name nor DICOM", expected)
        else:
            raise DatasetError(path, "no such file or folder", "scans and masks to import")
        if not found:
            raise DatasetError(path, "no scan in it", "at least one .nii, .nii.gz or DICOM file")
        files |= {file: file.relative_to(root) for file in found}
    return files


def _walk(folder: Path) -> list[Path]:
    """NIfTI and DICOM files below a folder; hidden ones are passed over, links to folders not followed."""

    def refuse(error: OSError) -> None:
        raise DatasetError(error.filename, error.strerror or "cannot be read", "a folder that can be read") from None

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [file for name in sorted(names) if is_volume(file := Path(parent, name))]
    return found


def _groups(files: dict[Path, PurePath]) -> tuple[tuple[Group, ...], DicomFiles | None]:
    """The files of each case, and what is known of those that are DICOM."""
    niftis = {file: name for file, name in files.items() if is_nifti(file)}
    if len(niftis) == len(files):
        return pair(niftis), None
    from covseg_core.data.library.dicom_files import find_dicom

    ids: dict[bool, set[str]] = {True: set(), False: set()}
    for name in niftis.values():
        ids[role_of(name) == "scan"].add(case_id(name).lower())
    dicom = find_dicom({file: name for file, name in files.items() if file not in niftis}, ids[True], ids[False])
    groups = pair(niftis, dicom.recognised)
    if not groups:
        raise DatasetError(next(iter(files.values())), "no scan in it", "DICOM slices, or .nii or .nii.gz files")
    return groups, dicom


def _check_new(groups: Sequence[Group], old: Dataset | None, name: str) -> None:
    there = {case.id.lower() for case in old.cases} if old else set()
    for group in groups:
        if group.id.lower() in there:
            raise DatasetError(
                group.scan, f"case {group.id} is in dataset {name} already", "a new case or dataset name"
            )
    if not any(group.infection or group.lung for group in groups):
        count = f"{len(groups)} scan{'s' * (len(groups) > 1)} and no mask"
        raise DatasetError(f"dataset {name}", count, "at least one infection or lung mask beside the scans")


def _import_all(groups: Sequence[Group], work: Callable[[Group], Case], progress: Progress | None) -> list[Case]:
    """Check and copy all cases, two at a time, since unpacking leaves Python's lock alone."""
    cases: list[Case] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = [pool.submit(work, group) for group in groups]
        try:
            for job in jobs:
                cases.append(job.result())
                if progress is not None:
                    progress(len(cases), len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return cases


def _import_case(
    folder: Path,
    labels: Sequence[int] | None,
    scale: Scale | None,
    allow_empty: bool,
    dicom: DicomFiles | None,
    group: Group,
) -> Case:
    from covseg_core.data.library.inspecting import inspect_case
    from covseg_core.data.reading.volumes import save_volume

    inspected = inspect_case(group, labels, scale, allow_empty, dicom)
    files, sha256, kept = {}, {}, {}
    for role, file in {"scan": group.scan, "infection": group.infection, "lung": group.lung}.items():
        if role in inspected.made:
            files[role] = f"cases/{group.id}/{_FILES[role]}.nii.gz"
            save_volume(inspected.made[role], folder / files[role])
            sha256[role], kept[role] = inspected.sha256[role], sha256_file(folder / files[role])
        elif file is not None:
            ending = ".nii.gz" if file.name.lower().endswith(".gz") else ".nii"
            files[role] = f"cases/{group.id}/{_FILES[role]}{ending}"
            sha256[role] = sha256_file(file)
            if _copy(file, folder / files[role]):
                kept[role] = sha256_file(folder / files[role])
    infection, lung = files.get("infection"), files.get("lung")
    return replace(inspected.case, scan=files["scan"], infection=infection, lung=lung, sha256=sha256, kept_sha256=kept)


def _copy(source: Path, target: Path) -> bool:
    """Copy a file to disk, safe from a power cut; returns whether words had to be emptied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    emptied = copy_without_words(source, target)
    with open(target, "rb") as handle:
        os.fsync(handle.fileno())
    return emptied


def _check_copies(cases: Sequence[Case], old: Dataset | None) -> None:
    """One scan under two ids would be two patients, who could stand on both sides of a split."""
    seen = {digest: case.id for case in (old.cases if old else ()) for digest in case.scan_sha256}
    for case in cases:
        for digest in case.scan_sha256:
            first = seen.setdefault(digest, case.id)
            if first != case.id:
                raise PairingError(f"case {case.id}", f"the same scan as case {first}", "each scan once")


def _publish(name: str, cases: Sequence[Case], old: Dataset | None, source: str, folder: Path) -> Dataset:
    """Move the staged cases to where they are seen; `dataset.json` comes last and decides what counts."""
    target = dataset_folder(name)
    if old is None:
        dataset = Dataset(name, tuple(cases), datetime.now(UTC).isoformat(timespec="seconds"), source)
        whole = folder / "whole"
        whole.mkdir()
        (folder / "cases").rename(whole / "cases")
        if (folder / KEY).exists():
            (folder / KEY).rename(whole / KEY)
        write_json(whole / "dataset.json", dataset)
        whole.rename(target)
        return dataset

    revision = old.revision + 1
    everything = sorted((*old.cases, *(replace(case, since=revision) for case in cases)), key=lambda case: case.id)
    dataset = replace(old, cases=tuple(everything), source=f"{old.source}, {source}", revision=revision)
    known = {case.id for case in old.cases}
    for leftover in (target / "cases").iterdir():
        if leftover.name not in known:
            shutil.rmtree(leftover)
    try:
        for case in cases:
            (folder / "cases" / case.id).rename(target / "cases" / case.id)
        if (folder / KEY).exists():
            (folder / KEY).replace(target / KEY)
        write_json(target / "dataset.json", dataset)
    except BaseException:
        for case in cases:
            shutil.rmtree(target / "cases" / case.id, ignore_errors=True)
        raise
    return dataset


def _without_folder(error: CovsegError, unzipped: Path) -> CovsegError:
    """The same error, with files out of a zip called by their names in it."""
    folder = re.escape(f"{unzipped}{os.sep}") + r"\d+" + re.escape(os.sep)
    return type(error)(*(re.sub(folder, "", text) for text in (error.what, error.found, error.expected)))
