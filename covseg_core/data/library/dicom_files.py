"""DICOM among the files of an import: series are scans, and segmentations (SEG) are masks.

What a file is tells its content; which case it belongs to tell the folders' names, as for NIfTI, and of a SEG the
series that it refers to.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from covseg_core.data.library.pairing import (
    Recognised,
    Role,
    case_id,
    named_role,
    only_masks,
    role_of,
    segment_role,
    series_ids,
)
from covseg_core.data.reading.dicom import Found, series_of
from covseg_core.data.reading.dicom.headers import Header, headers_of
from covseg_core.data.reading.dicom.segmentation import Segmentation, is_segmentation, read_segmentation
from covseg_core.data.reading.opening import open_series
from covseg_core.errors import PairingError, ScanError

Mask = Literal["infection", "lung"]


@dataclass(frozen=True)
class Seg:
    """A DICOM SEG, and what its segments are masks of."""

    segmentation: Segmentation
    numbers: Mapping[Mask, tuple[int, ...]]
    """Of the segments that show infection, and of those that show lung."""

    @property
    def passed_over(self) -> int:
        """How many segments show something else."""
        return len(self.segmentation.segments) - sum(map(len, self.numbers.values()))


@dataclass(frozen=True)
class DicomFiles:
    """What was found, by the path that `Recognised` has, too."""

    scans: Mapping[Path, Found] = field(default_factory=dict)
    segs: Mapping[Path, Seg] = field(default_factory=dict)
    recognised: tuple[Recognised, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """Slices that one case's scan is among."""

    id: str
    path: Path
    name: PurePath
    found: Found

    @property
    def series_uids(self) -> set[str]:
        return {series.headers[0].series_uid for series in self.found.series} - {""}

    @property
    def only_other_kinds(self) -> bool:
        return all(series.other_kind for series in self.found.series)


def find_dicom(
    files: Mapping[Path, PurePath], scan_ids: Collection[str] = (), mask_ids: Collection[str] = ()
) -> DicomFiles:
    """Recognise the DICOM series and SEG among files. Series without a mask are passed over.

    Parameters
    ----------
    files : each file, and its name as far as it counts; see `pairing.pair`
    scan_ids : ids of the scans that are NIfTI, in small letters
    mask_ids : the same of masks

    Raises
    ------
    ScanError : a damaged file; nothing but objects that are no CT
    PairingError : a folder without a name of its own, a CT series in a folder of masks, a SEG without a scan or without
        a segment that is called infection or lung
    """
    if not files:
        return DicomFiles()
    found = headers_of(files, next(iter(files)))
    if found.damaged:
        more = f", one of {len(found.damaged)}" if len(found.damaged) > 1 else ""
        raise ScanError(files[found.damaged[0]], f"a damaged DICOM file{more}", "complete DICOM files only")
    folders = _folders([header for header in found.headers if not is_segmentation(header)], files, mask_ids)
    scans = {*scan_ids, *(folder.id.lower() for folder in folders)}
    segs: dict[Path, Seg] = {}
    masks = []
    for header in filter(is_segmentation, found.headers):
        segmentation, name = read_segmentation(header.path), files[header.path]
        segs[header.path] = seg = Seg(segmentation, _numbers(segmentation, name))
        role: Role = "both" if len(seg.numbers) > 1 else next(iter(seg.numbers))
        masks.append(Recognised(header.path, name, role, _id_of(segmentation, name, folders, scans)))
    wanted = {*mask_ids, *(mask.id.lower() for mask in masks)}
    kept = [folder for folder in folders if folder.id.lower() in wanted]
    if not wanted:  # then it is said that there is no mask
        kept = [folder for folder in folders if not folder.only_other_kinds]
    if folders and not scan_ids and all(folder.only_other_kinds for folder in folders):
        every = Found(tuple(series for folder in folders for series in folder.found.series), 0, 0)
        open_series(every, Path(folders[0].name))  # says why it cannot
    for folder in folders:
        if only_masks(folder.name) and not folder.only_other_kinds:
            raise PairingError(folder.name, "a DICOM series of CT slices", "masks as NIfTI or DICOM SEG")
    series = [Recognised(folder.path, folder.name, "scan", folder.id) for folder in kept]
    return DicomFiles(
        {folder.path: folder.found for folder in kept},
        segs,
        (*series, *masks),
        _passed_over([folder for folder in folders if folder not in kept]),
    )


def _folders(headers: Sequence[Header], files: Mapping[Path, PurePath], mask_ids: Collection[str]) -> list[_Folder]:
    """The slices of each id."""
    names = {header.path.parent: files[header.path].parent for header in headers}
    ids = _ids(names, mask_ids)
    by_id: dict[str, list[Header]] = {}
    for header in headers:
        by_id.setdefault(ids[header.path.parent].lower(), []).append(header)
    folders: list[_Folder] = []
    for group in by_id.values():
        places = sorted({header.path.parent for header in group})
        path = _together(places, names)
        if any(folder.path == path for folder in folders):
            path = places[0]  # cases whose slices are strewn over the same folders
        name = names[places[0]]
        name = PurePath(*name.parts[: len(name.parts) - len(places[0].parts) + len(path.parts)])
        folders.append(_Folder(ids[places[0]], path, name, Found(series_of(group), 0, 0)))
    return folders


def _together(places: Sequence[Path], names: Mapping[Path, PurePath]) -> Path:
    """The folder that holds those of one case, if it is below what the user named and no other case's own."""
    path = Path(os.path.commonpath(places))
    inside = len(places[0].parts) - len(path.parts) < len(names[places[0]].parts)
    return path if inside and (path in places or path not in names) else places[0]


def _ids(names: Mapping[Path, PurePath], mask_ids: Collection[str]) -> dict[Path, str]:
    """The id of each folder: one by which a mask is called, too, else the likeliest.

    Folders of several people may be called alike (`p1/chest`, `p2/chest`): then those above them count as well.
    """
    ids: dict[Path, str] = {}
    owners: dict[str, set[PurePath]] = {}
    for place, name in names.items():
        possible = series_ids(name)
        if not possible:
            raise PairingError(name, "a folder without an id", "<case>/dicom/ or <case>/ for each scan")
        ids[place] = next((id for id in possible if id.lower() in mask_ids), possible[0])
        owners.setdefault(ids[place].lower(), set()).add(_owner(name, ids[place]))
    for place, name in names.items():
        id = ids[place].lower()
        if len(owners[id]) > 1 and id not in mask_ids:
            inside = _owner(name, ids[place]).parts[1:] or name.parts
            ids[place] = case_id(PurePath("-".join(inside)))
    return ids


def _owner(name: PurePath, id: str) -> PurePath:
    """The folder that an id comes from."""
    for folder in (name, *name.parents):
        if folder.name and id in series_ids(PurePath("-", folder.name)):
            return folder
    return name


def _id_of(segmentation: Segmentation, name: PurePath, folders: Sequence[_Folder], scans: Collection[str]) -> str:
    """That of the series it refers to, whatever it is called; else that of a scan called like it or its folders."""
    for folder in folders:
        if segmentation.series_uids & folder.series_uids:
            return folder.id
    for id in series_ids(PurePath(name.parent, name.stem)):
        if id.lower() in scans:
            return id
    raise PairingError(name, "a DICOM SEG of a series that is not here", "the series that it refers to")


def _numbers(segmentation: Segmentation, name: PurePath) -> dict[Mask, tuple[int, ...]]:
    """Which segments are of which mask; the file's name decides where a segment is called nothing."""
    by_name = role_of(name)
    found: dict[Mask, list[int]] = {}
    for segment in segmentation.segments:
        role = segment_role(segment.words)
        if role is None and by_name in ("infection", "lung"):
            found.setdefault("lung" if by_name == "lung" else "infection", []).append(segment.number)
        elif role:
            found.setdefault(role, []).append(segment.number)
    if not found and (named := named_role(name)):
        found[named] = [segment.number for segment in segmentation.segments]
    if not found:
        count = len(segmentation.segments)
        what = f"{count} segments, none of them called infection or lung" if count > 1 else "a segment of another name"
        raise PairingError(name, what, "infection, lesion or lung in a segment's label, or in the file's name")
    return {role: tuple(numbers) for role, numbers in found.items()}


def _passed_over(folders: Sequence[_Folder]) -> tuple[str, ...]:
    if not folders:
        return ()
    reasons = sorted({series.problem or "no mask" for folder in folders for series in folder.found.series})
    count = f"{len(folders)} folder{'s' * (len(folders) > 1)}"
    return (f"{count} with DICOM passed over: {'; '.join(reasons[:5])}",)
