"""Which files belong together: scans, infection masks and lung masks, paired by the id that their names hold.

Only names are looked at, so that pairing is quick and can be tested without files; `importing` beside it checks
that paired volumes lie on one grid. Sorted order is never used: in a circulating copy of the public data set the scans
are called `coronacases_org_001.nii` and the masks `coronacases_001.nii`, and both lists sort differently.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from covseg_core.errors import PairingError

Role = Literal["scan", "infection", "lung", "both"]
"""`both`: one mask with the labels 1 left lung, 2 right lung, 3 infection, as in `Lung_and_Infection_Mask.zip`."""

BOTH_INFECTION_LABELS = (3,)

_SCAN = {"ct", "scan", "scans", "im", "ims", "img", "image", "images", "imagestr", "imagests"}
_MASK = {"mask", "masks", "msk", "seg", "segmentation", "label", "labels", "labelstr", "labelsts"}
_INFECTION = {"infection", "infections", "lesion", "lesions"}
_LUNG = {"lung", "lungs"}
_LUNG_MASK = {"lungmask", "lungmasks"}
_DICOM = {"dicom", "dicoms", "dcm", "dcms"}
_ROLE_WORDS = _SCAN | _MASK | _INFECTION | _LUNG | _LUNG_MASK | _DICOM | {"and", "updated"}
_ZENODO_SCANS = "covid-19-ct-seg_20cases"
_SEPARATOR = re.compile(r"[-_. ]+")
_ANY_ROLE_WORD = "(?:" + "|".join(sorted(_ROLE_WORDS)) + ")"
_FIRST_WORDS = re.compile(rf"^({_ANY_ROLE_WORD}([-_. ]+|$))+", re.IGNORECASE)
_LAST_WORDS = re.compile(rf"((^|[-_. ]+){_ANY_ROLE_WORD})+$", re.IGNORECASE)
_CORONACASES = re.compile(r"coronacases(?:_org)?_(?:case)?0*(\d+)", re.IGNORECASE)
_RADIOPAEDIA = re.compile(r"radiopaedia(?:_org)?[_-](?:covid-19-pneumonia-)?(\d+)_(\d+)_(\d+)(?:-dcm)?", re.IGNORECASE)
_STACKED = {"tr", "val"}
_UID = re.compile(r"\d+(\.\d+){3,}")
_NUMBERED = re.compile(r"(series|ser|se|study|stud|stu|st|dicom|dcm|scan|ct|im|img|image)[-_. ]*\d*", re.IGNORECASE)
"""Folders as discs from hospitals have them, below that of the patient."""
_OF_INFECTION = _INFECTION | {
    *("covid", "covid19", "pneumonia", "ggo", "consolidation", "consolidations", "opacity", "opacities"),
    *("glass", "paving", "infiltrate", "infiltrates"),
}
_OF_LUNG = _LUNG | _LUNG_MASK | {"lobe", "lobes"}
_NOT = re.compile(r"\b(non|not|without|excluding|minus|healthy|normal)\b|\bnon[a-z]", re.IGNORECASE)
"""What makes another thing of it: `noninfectious opacity`, `lung without lesions`."""
_OF_NOTHING = re.compile(r"[-_. ]*((segment|segmentation|label|mask|roi|structure|tissue|unnamed)?[-_. ]*\d*)[-_. ]*")


@dataclass(frozen=True)
class Recognised:
    """A file, or a folder of DICOM slices, whose role and case are known."""

    path: Path
    name: PurePath
    """As the user calls it."""
    role: Role
    id: str


@dataclass(frozen=True)
class Group:
    """The files of one case."""

    id: str
    patient: str
    stacked: bool
    scan: Path
    """A file, or the folder of a DICOM series."""
    infection: Path | None
    """NIfTI or DICOM SEG, as is `lung`."""
    lung: Path | None
    labels: tuple[int, ...] | None = None
    """Labels of the infection in a mask of `both`; None where the mask is of the infection alone."""


def pair(files: Mapping[Path, PurePath], more: Sequence[Recognised] = ()) -> tuple[Group, ...]:
    """Group files into cases, sorted by id.

    A file's role (scan, infection mask, lung mask) is recognised by words in its name, else by its nearest folder that
    has such a word, else it is a scan. What remains of the name without those words is the id; where nothing remains
    (`<case>/ct.nii.gz`), the folder's name is. Capital letters do not matter.

    Parameters
    ----------
    files : each file, and its name as far as it counts: the folders that the user named, and what is below them
    more : what was recognised by its content

    Raises
    ------
    PairingError : two scans or two masks of a kind with one id, masks without a scan, or no id to be found

    >>> a, b = Path("/x/ct_scans/coronacases_org_001.nii"), Path("/x/infection_mask/coronacases_001.nii")
    >>> [group] = pair({a: PurePath("ct_scans", a.name), b: PurePath("infection_mask", b.name)})
    >>> group.id, group.infection == b
    ('coronacases_001', True)
    """
    named = [Recognised(file, name, role_of(name), case_id(name)) for file, name in files.items()]
    found: dict[str, dict[Role, Recognised]] = {}
    ids: dict[str, str] = {}
    for one in sorted((*named, *more), key=lambda one: one.name.parts):
        roles = found.setdefault(one.id.lower(), {})
        if one.role in roles:
            what = "scan" if one.role == "scan" else "mask of its kind"
            second = f"second {what} with the id {one.id}, after {roles[one.role].name}"
            raise PairingError(one.name, second, "one for each id")
        roles[one.role] = one
        if one.role == "scan" or one.id.lower() not in ids:
            ids[one.id.lower()] = one.id

    lonely = [(one.name, ids[key]) for key, roles in found.items() if "scan" not in roles for one in roles.values()]
    if lonely:
        name, id = lonely[0]
        count = f"one of {len(lonely)} masks without a scan" if len(lonely) > 1 else "mask without a scan"
        raise PairingError(name, count, f"a scan with the id {id}")
    return tuple(_group(ids[key], {role: one.path for role, one in found[key].items()}) for key in sorted(ids))


def role_of(name: PurePath) -> Role:
    """What a file is, by its name and its folders' names.

    >>> role_of(PurePath("Infection_Mask/coronacases_001.nii.gz")), role_of(PurePath("study_0255.nii.gz"))
    ('infection', 'scan')
    """
    for part in (_stem(name), *reversed(name.parent.parts)):
        if part.lower().startswith(_ZENODO_SCANS):
            return "scan"
        words = set(_SEPARATOR.split(part.lower()))
        lung, infection = bool(words & (_LUNG | _LUNG_MASK)), bool(words & _INFECTION)
        if lung and infection:
            return "both"
        if infection:
            return "infection"
        if words & _LUNG_MASK or (lung and words & _MASK):
            return "lung"
        if words & _MASK:
            return "infection"
        if words & _SCAN:
            return "scan"
    return "scan"


def case_id(name: PurePath) -> str:
    """Id of the case that a file belongs to: letters, digits, `.`, `_` and `-`, fit to be a folder's name.

    Raises
    ------
    PairingError : neither the file's name nor its folders' names hold anything but words such as `ct` and `mask`

    >>> case_id(PurePath("radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii"))
    'radiopaedia_10_85902_1'
    >>> case_id(PurePath("case 7/ct.nii.gz"))
    'case_7'
    """
    stem = _stem(name)
    if name.parent.name.lower().startswith("images"):
        stem = stem.removesuffix("_0000")  # nnU-Net marks the channel of images, not of labels
    for part in (stem, *reversed(name.parent.parts)):
        bare = _without_role_words(part) if part is stem else part
        if bare and not set(_SEPARATOR.split(bare.lower())) <= _ROLE_WORDS:
            return _known(bare) or _safe(bare)
    raise PairingError(name, "a name without an id", "<case>/ct.nii.gz or <case>.nii.gz")


def series_ids(folder: PurePath) -> tuple[str, ...]:
    """What a folder of DICOM slices may be called, the likeliest first; empty if all its names are words such as `ct`.

    The nearest folder that is called something, before UIDs and numbered series, before the folder that the user named.

    >>> series_ids(PurePath("scans/case_7/dicom")), series_ids(PurePath("scans/p1_ct/SE0001"))
    (('case_7',), ('p1', 'p1_ct', 'SE0001'))
    """
    ranked: list[tuple[int, str]] = []
    for depth, part in enumerate(reversed(folder.parts)):
        named = depth == len(folder.parts) - 1
        exported = bool(_UID.fullmatch(part) or _NUMBERED.fullmatch(part))
        for bare in (_without_role_words(part), part):
            if bare and not set(_SEPARATOR.split(bare.lower())) <= _ROLE_WORDS:
                ranked.append((2 if named else int(exported), _known(bare) or _safe(bare)))
    return tuple(dict.fromkeys(id for _, id in sorted(ranked, key=lambda one: one[0])))


def segment_role(words: Sequence[str]) -> Literal["infection", "lung", ""] | None:
    """What a segment of a DICOM SEG shows, by the first that says something of its label, description and type.

    Returns
    -------
    role : "" for something else than infection and lung, None if the words say nothing at all

    >>> segment_role(["Left lung"]), segment_role(["Segment_1", "GGO"]), segment_role(["Heart"]), segment_role(["1"])
    ('lung', 'infection', '', None)
    """
    for text in words:
        parts = set(_SEPARATOR.split(text.lower()))
        if _OF_NOTHING.fullmatch(text.lower()):
            continue
        if _NOT.search(text.replace("_", " ")):
            return ""
        return "infection" if parts & _OF_INFECTION else "lung" if parts & _OF_LUNG else ""
    return None


def named_role(name: PurePath) -> Literal["infection", "lung"] | None:
    """The mask that a file's own name speaks of; None for both, and for words such as `mask`.

    >>> named_role(PurePath("case_7/lung.dcm")), named_role(PurePath("case_7/mask.dcm"))
    ('lung', None)
    """
    words = set(_SEPARATOR.split(_stem(name).lower()))
    lung, infection = bool(words & (_LUNG | _LUNG_MASK)), bool(words & _INFECTION)
    return None if lung == infection else "lung" if lung else "infection"


def only_masks(folder: PurePath) -> bool:
    """Whether a folder is called as one of masks, and nothing more: `mask`, `lung_mask`, `infection`."""
    words = set(_SEPARATOR.split(folder.name.lower()))
    return words <= _ROLE_WORDS and role_of(PurePath(folder.name)) != "scan"


def patient_of(id: str) -> str:
    """Who was scanned, as far as the id tells: Radiopaedia's number of the patient, else one patient for each case.

    >>> patient_of("radiopaedia_29_86490_1"), patient_of("radiopaedia_29_86491_1"), patient_of("coronacases_001")
    ('radiopaedia_29', 'radiopaedia_29', 'coronacases_001')
    """
    radiopaedia = _RADIOPAEDIA.fullmatch(id)
    return f"radiopaedia_{radiopaedia[1]}" if radiopaedia else id


def is_nifti(name: PurePath) -> bool:
    """Whether a file is a volume by its name; hidden files, such as a Mac's `._ct.nii.gz`, are not."""
    return not name.name.startswith(".") and name.name.lower().endswith((".nii", ".nii.gz"))


def _group(id: str, roles: dict[Role, Path]) -> Group:
    """A mask of both stands in for the separate masks that are missing."""
    both = roles.get("both")
    return Group(
        id,
        patient_of(id),
        id.lower() in _STACKED,
        roles["scan"],
        roles.get("infection", both),
        roles.get("lung", both),
        BOTH_INFECTION_LABELS if both and is_nifti(both) and "infection" not in roles else None,
    )


def _stem(name: PurePath) -> str:
    return re.sub(r"\.(nii(\.gz)?|dcm)$", "", name.name, flags=re.IGNORECASE)


def _without_role_words(stem: str) -> str:
    """`mask_case-7_ct` -> `case-7`: role words off both ends, never out of the middle."""
    return _LAST_WORDS.sub("", _FIRST_WORDS.sub("", stem)).strip("-_. ")


def _known(bare: str) -> str | None:
    """The one spelling of the public data set's ids."""
    if coronacases := _CORONACASES.fullmatch(bare):
        return f"coronacases_{int(coronacases[1]):03d}"
    if radiopaedia := _RADIOPAEDIA.fullmatch(bare):
        return "radiopaedia_" + "_".join(radiopaedia.groups())
    return None


def _safe(bare: str) -> str:
    """A folder's name out of any text. Where letters are lost, a hash keeps different texts apart."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", bare) if not unicodedata.combining(c))
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("-_.")
    if safe and plain.isascii() and len(safe) <= 80:
        return safe
    code = hashlib.sha256(unicodedata.normalize("NFC", bare).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[:80].rstrip('-_.') or 'case'}-{code}"
