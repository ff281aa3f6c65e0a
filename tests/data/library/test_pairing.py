"""Pairing by id. What a user loses when it fails: models trained on one patient's scan with another's mask."""

from __future__ import annotations

import random
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covseg_core.data.library.pairing import Group, case_id, is_nifti, pair, patient_of, role_of
from covseg_core.errors import PairingError
from covseg_core.files import safe_name


def paired(*names: str) -> tuple[Group, ...]:
    return pair({Path("/in") / name: PurePath(name) for name in names})


def names(group: Group) -> tuple[str | None, ...]:
    return tuple(file and str(file.relative_to("/in")) for file in (group.scan, group.infection, group.lung))


def test_case_folders_are_cases() -> None:
    files = [f"ct20/{case}/{file}.nii.gz" for case in ("b", "a") for file in ("lung_mask", "ct", "infection_mask")]
    groups = paired(*files)
    assert [group.id for group in groups] == ["a", "b"]
    assert names(groups[0]) == ("ct20/a/ct.nii.gz", "ct20/a/infection_mask.nii.gz", "ct20/a/lung_mask.nii.gz")


SCANS = (
    [f"coronacases_org_{n:03d}" for n in (1, 2, 3, 10)]
    + ["coronacases_org_case007"]
    + [f"radiopaedia_org_covid-19-pneumonia-{n}-dcm" for n in ("10_85902_1", "10_85902_3", "4_85506_1", "14_85914_0")]
)
MASKS = [f"coronacases_{n:03d}" for n in (1, 2, 3, 10, 7)] + [
    f"radiopaedia_{n}" for n in ("10_85902_1", "10_85902_3", "4_85506_1", "14_85914_0")
]


def test_the_circulating_misnamed_copy_pairs_by_id_and_not_by_order() -> None:
    files = [f"ct_scans/{name}.nii" for name in SCANS]
    files += [f"{folder}/{name}.nii" for folder in ("infection_mask", "lung_mask") for name in MASKS]
    files += [f"lung_and_infection_mask/{name}.nii" for name in MASKS]
    random.Random(0).shuffle(files)
    found = {group.id: names(group) for group in paired(*files)}
    assert found == {
        mask: (f"ct_scans/{scan}.nii", f"infection_mask/{mask}.nii", f"lung_mask/{mask}.nii")
        for scan, mask in zip(SCANS, [*MASKS[:4], MASKS[4], *MASKS[5:]], strict=True)
    }


def test_the_zenodo_folders_are_told_apart_though_the_scans_folder_says_seg() -> None:
    folders = ("COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask")
    [group] = paired(*(f"{folder}/coronacases_001.nii.gz" for folder in folders))
    assert names(group) == tuple(f"{folder}/coronacases_001.nii.gz" for folder in folders)
    assert group.labels is None


def test_a_combined_mask_stands_in_for_both_with_its_infection_label() -> None:
    [group] = paired("COVID-19-CT-Seg_20cases/coronacases_001.nii.gz", "Lung_and_Infection_Mask/coronacases_001.nii.gz")
    assert group.infection == group.lung == Path("/in/Lung_and_Infection_Mask/coronacases_001.nii.gz")
    assert group.labels == (3,)


def test_two_scans_of_one_person_are_one_patient() -> None:
    cases = ["10_85902_1", "10_85902_3", "29_86490_1", "29_86491_1", "7_85703_0"]
    patients = {case: patient_of(f"radiopaedia_{case}") for case in cases}
    assert patients["10_85902_1"] == patients["10_85902_3"] == "radiopaedia_10"
    assert patients["29_86490_1"] == patients["29_86491_1"] == "radiopaedia_29"
    assert len(set(patients.values())) == 3
    assert patient_of("coronacases_001") != patient_of("coronacases_010")


def test_stacked_slices_are_marked() -> None:
    [group] = paired("medseg/tr_im.nii.gz", "medseg/tr_mask.nii.gz")
    assert (group.id, group.stacked) == ("tr", True)
    assert names(group) == ("medseg/tr_im.nii.gz", "medseg/tr_mask.nii.gz", None)
    [group] = paired("x/case1_ct.nii.gz", "x/case1_mask.nii.gz")
    assert not group.stacked


@pytest.mark.parametrize(
    ("scan", "mask"),
    [
        ("study_0255.nii.gz", "study_0255_mask.nii.gz"),
        ("volume-covid19-A-0003_ct.nii.gz", "volume-covid19-A-0003_seg.nii.gz"),
        ("imagesTr/covid_004_0000.nii.gz", "labelsTr/covid_004.nii.gz"),
        ("images/Case 7.nii", "masks/case 7.NII.GZ"),
        ("scans/7.nii.gz", "masks/7.nii.gz"),
        ("p1/ct/ct.nii.gz", "p1/seg/seg.nii.gz"),
        ("p1/ct.nii.gz", "p1/lesion.nii.gz"),
        ("ct/\u00fc1.nii", "mask/u\u03081.nii"),  # an umlaut as Linux and as a Mac write it
    ],
)
def test_common_ways_to_name_scans_and_masks(scan: str, mask: str) -> None:
    [group] = paired(f"mine/{scan}", f"mine/{mask}")
    assert names(group) == (f"mine/{scan}", f"mine/{mask}", None)


def test_lung_is_a_mask_only_with_a_word_that_says_so() -> None:
    assert role_of(PurePath("ct/lung_001.nii.gz")) == "scan"
    assert role_of(PurePath("x/lung_001_mask.nii.gz")) == "lung"
    assert role_of(PurePath("x/lungmask_001.nii.gz")) == "lung"


@pytest.mark.parametrize(
    "files",
    [
        ("a/ct.nii.gz", "a/ct.nii"),
        ("ct/coronacases_001.nii", "ct/coronacases_org_001.nii"),
        ("x/a.nii", "y/A.nii"),
        ("x/a b.nii", "x/a_b.nii"),
    ],
)
def test_two_scans_with_one_id_are_refused_and_both_are_named(files: tuple[str, str]) -> None:
    with pytest.raises(PairingError) as caught:
        paired(*files)
    assert all(file in str(caught.value) for file in files)


def test_two_masks_for_one_scan_are_refused() -> None:
    with pytest.raises(PairingError, match=r"m2/a_mask.*m1/a_mask"):
        paired("ct/a.nii", "m1/a_mask.nii", "m2/a_mask.nii")


def test_masks_without_scans_are_refused_even_if_others_have_one() -> None:
    with pytest.raises(PairingError, match=r"study_0256_mask.nii.gz: mask without a scan; .* id study_0256"):
        paired("m/study_0255.nii.gz", "m/study_0255_mask.nii.gz", "m/study_0256_mask.nii.gz")


def test_a_name_without_an_id_is_refused() -> None:
    with pytest.raises(PairingError, match="without an id"):
        paired("ct/ct.nii.gz")


def test_files_that_are_no_volumes_by_name() -> None:
    assert is_nifti(PurePath("a.nii"))
    assert is_nifti(PurePath("A.NII.GZ"))
    assert not any(is_nifti(PurePath(name)) for name in ("._a.nii.gz", ".nii", "a.nii.gz.part", "readme.md", "a.gz"))


@pytest.mark.parametrize("name", ["..nii.gz", "...nii.gz", ".. .nii", "-rf.nii", "病例.nii.gz", "a" * 240 + ".nii.gz"])
def test_hostile_names_become_plain_ids(name: str) -> None:
    assert safe_name(case_id(PurePath("in", name)))


def test_ids_stay_different_where_letters_are_lost_or_cut() -> None:
    assert case_id(PurePath("病例1.nii.gz")) != case_id(PurePath("患者1.nii.gz"))
    assert case_id(PurePath("a" * 200 + "1.nii")) != case_id(PurePath("a" * 200 + "2.nii"))


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("coronacases_1.nii", "coronacases_001"),
        ("Coronacases_ORG_case7.NII", "coronacases_007"),
        ("coronacases_1234.nii.gz", "coronacases_1234"),
        ("radiopaedia_org-7_85703_0.nii", "radiopaedia_7_85703_0"),
        ("imagesTs/x_0000.nii", "x"),
        ("IMAGES/x_0000.nii", "x"),
        ("labelsTr/x_0000.nii", "x_0000"),  # nnU-Net numbers channels of images only: this is a name
        ("x_0000_0000/x.nii", "x"),
        ("ct_mask-3_im.nii", "3"),
        ("case_mask_7.nii", "case_mask_7"),  # words in the middle belong to the name
        ("ward 3/p ct 1/ct.nii", "p_ct_1"),
        ("ward 3/scans/ct.nii", "ward_3"),
        ("x/-_a.b_-.nii", "a.b"),
        ("a(1)  [2].nii", "a_1_2"),
        ("a" * 80 + ".nii", "a" * 80),
        ("a" * 81 + ".nii", "a" * 80 + "-8c48280d"),
        ("X7_X.nii", "X7_X"),
        ("ward 3/case_ct/ct.nii", "case_ct"),  # a folder's name is taken as it is
        ("a" * 79 + "_b" * 10 + ".nii", "a" * 79 + "-e4d97243"),
        ("\u60a3X.nii", "X-e60c288b"),
        ("\udcff7.nii", "7-790b068f"),  # a byte that is no UTF-8, as Python hands it on
        ("M\u00fcller.nii", "Muller"),
        ("\u60a3\u80051.nii", "1-3a3bf138"),
        ("\u60a3\u8005.nii", "case-9db4a3b3"),
    ],
)
def test_ids_by_name(name: str, id: str) -> None:
    """Ids are folders and keys: data that are imported again after an update must get the ids that they had."""
    assert case_id(PurePath("in", name)) == id


def test_a_case_is_called_as_its_scan_is() -> None:
    """A user looks for the name of the scan, not for a mask's way to write it."""
    for scan, mask in (("a_ct/case7.nii", "mask/CASE7.nii"), ("scans/Case7.nii", "masks/CASE7.nii")):
        [group] = paired(scan, mask)
        assert group.id == PurePath(scan).stem
        assert names(group) == (scan, mask, None)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("mask/ct/1.nii", "scan"),
        ("ct/mask/1.nii", "infection"),  # the nearest folder says what it is
        ("mask/1_ct.nii", "scan"),  # and the name itself before any folder
        ("lung_mask/infection/1.nii", "infection"),
        ("x/lung_infection_1.nii", "both"),
        ("x/1_lungmask_lesions.nii", "both"),
        ("lungs_seg/1.nii", "lung"),
        ("LUNG_MASKS/1.nii", "lung"),
        ("x/Covid-19-CT-Seg_20cases (1)/coronacases_001.nii", "scan"),
        ("x/1.nii", "scan"),
    ],
)
def test_roles_by_name(name: str, role: str) -> None:
    assert role_of(PurePath("in", name)) == role


def test_a_separate_mask_comes_before_the_one_of_both() -> None:
    """Labels 1 and 2 of the combined mask are lungs: taken for an infection mask, it would be ten times too large."""
    both, infection, lung = "both/lung_and_infection_1.nii", "infection/1.nii", "lung_mask/1.nii"
    [group] = paired("ct/1.nii", both, infection)
    assert names(group) == ("ct/1.nii", infection, both) and group.labels is None
    [group] = paired("ct/1.nii", both, lung)
    assert names(group) == ("ct/1.nii", both, lung) and group.labels == (3,)
    [group] = paired("ct/1.nii", infection)
    assert group.labels is None


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(PairingError) as caught:
        paired("ct/1.nii", "masks/2.nii", "masks/3.nii")
    assert str(caught.value) == "masks/2.nii: one of 2 masks without a scan; expected a scan with the id 2"
    with pytest.raises(PairingError) as caught:
        paired("a/1.nii", "b/1.nii")
    assert str(caught.value) == "b/1.nii: second scan with the id 1, after a/1.nii; expected one for each id"
    with pytest.raises(PairingError) as caught:
        paired("ct/1.nii", "a/1_mask.nii", "b/1_mask.nii")
    assert str(caught.value).startswith("b/1_mask.nii: second mask of its kind with the id 1, after a/1_mask.nii;")
    with pytest.raises(PairingError) as caught:
        case_id(PurePath("scans", "ct.nii"))
    assert str(caught.value) == "scans/ct.nii: a name without an id; expected <case>/ct.nii.gz or <case>.nii.gz"


def test_whom_a_scan_is_of_is_told_by_a_whole_id_only() -> None:
    """Half an id is somebody else's: two people taken for one would only cost data, one for two leaks."""
    assert patient_of("radiopaedia_29_86490") == "radiopaedia_29_86490"
    assert patient_of("my_radiopaedia_29_86490_1") == "my_radiopaedia_29_86490_1"
    assert patient_of("radiopaedia_29_86490_1-dcm") == "radiopaedia_29"


def test_a_case_knows_its_patient() -> None:
    """By this the split keeps a person's scans together."""
    groups = paired("ct/radiopaedia_29_86490_1.nii", "ct/radiopaedia_29_86491_1.nii", "ct/coronacases_001.nii")
    assert [group.patient for group in groups] == ["coronacases_001", "radiopaedia_29", "radiopaedia_29"]


def test_both_stacks_of_the_challenge_are_stacked() -> None:
    assert [group.stacked for group in paired("m/val_im.nii.gz", "m/TR_im.nii.gz", "m/tr1_im.nii.gz")] == [
        True,
        False,
        True,
    ]


TEXT = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=60)


@given(st.lists(TEXT, max_size=2), TEXT)
def test_every_name_gives_a_safe_id(folders: list[str], stem: str) -> None:
    name = PurePath("mine", *folders, f"{stem}.nii.gz")
    id = case_id(name)
    assert safe_name(id) == id
    assert case_id(name.with_name(f"{stem}_mask.nii.gz")) == id, "the mask of this scan would not be found"
