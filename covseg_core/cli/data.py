"""`covseg data`: make, list, show, correct and delete datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.table import Table
from rich.text import Text

from covseg_core.cli import output
from covseg_core.cli.output import json_option, print_json, progress_bar
from covseg_core.data.library.datasets import ROLES, Case, Dataset, delete_dataset, list_datasets, load_dataset
from covseg_core.data.library.importing import import_dataset, import_sample
from covseg_core.data.library.revision import FILE, Role
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import SettingError

if TYPE_CHECKING:
    from covseg_core.data.library.revisions import Entry, Saved

NARROW = 100
"""Below this many columns, patients share a table column with their cases."""
_FOLDED = {"case", "patient", "name", "source", "warnings"}


@click.group()
def data() -> None:
    """Import, list, show and correct datasets."""


@data.command()
@click.argument("name")
@click.option("--scans", default=6, show_default=True, type=click.IntRange(1, 1000), help="How many patients.")
@click.option("--size", default=128, show_default=True, type=click.IntRange(32, 512), help="Pixels a side.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which patients.")
def sample(name: str, scans: int, size: int, seed: int) -> None:
    """Make a dataset of synthetic chest phantoms with lesions and masks, offline."""
    with progress_bar("Drawing and importing") as progress:
        dataset = import_sample(name, scans, size, seed, progress)
    _print_dataset(dataset)


@data.command()
@click.argument("name")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--labels", metavar="1,2", help="Labels of the infection masks that count, or segments of a SEG; all by default."
)
@click.option("--scale", type=click.Choice(get_args(Scale)), help="Of the grey values, where it cannot be detected.")
@click.option("--allow-empty", is_flag=True, help="Take infection masks without infection, as of healthy people.")
@click.option(
    "--pseudonyms", is_flag=True, help="Call cases case-001 and so on; the key stays in the dataset's folder."
)
def add(
    name: str, paths: Sequence[str], labels: str | None, scale: Scale | None, allow_empty: bool, pseudonyms: bool
) -> None:
    """Import scans and masks: files, folders or zips. Adds to NAME if it exists.

    Understands <case>/{ct,infection_mask,lung_mask}.nii.gz, folders of scans and folders of masks paired by the ids in
    their names, and stacked slices (tr_im, tr_mask). Scans can be DICOM series, as in <case>/dicom/, and masks DICOM
    SEG.
    """
    chosen = None if labels is None else _parse_labels(labels)
    before = len(load_dataset(name).cases) if name in list_datasets() else 0
    with progress_bar("Reading") as progress:
        dataset = import_dataset(name, paths, chosen, scale, allow_empty, progress=progress, pseudonyms=pseudonyms)
    if before:
        click.echo(f"{_count(len(dataset.cases) - before, 'case')} added to {before}.")
    _print_dataset(dataset)


@data.command("from-cohort")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
def from_cohort(name: str, folder: Path) -> None:
    """Make a dataset of the scans that `covseg predict` has put into FOLDER, with the masks of the models.

    To be reviewed and corrected; the history of each mask names the models.
    """
    from covseg_core.prediction.cohort.dataset import dataset_of_cohort

    with progress_bar("Reading") as progress:
        dataset = dataset_of_cohort(folder, name, progress)
    _print_dataset(dataset)


@data.command()
@click.argument("source", type=click.Choice(["zenodo"]))
@click.option("--to", "name", help="Name of the dataset; the source's by default.")
def download(source: str, name: str | None) -> None:
    """Download a public dataset, check it by SHA-256 and import it."""
    from covseg_core.data.library import download as downloads

    with progress_bar("Downloading") as progress:
        archives = downloads.download(source, progress)
    with progress_bar("Reading") as progress:
        dataset = import_dataset(name or source, archives, source=f"{source} download", progress=progress)
    _print_dataset(dataset)


@data.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the datasets."""
    rows = [_summary(load_dataset(name)) for name in list_datasets()]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("No datasets yet: covseg data add NAME PATH..., or covseg data sample NAME.")
    else:
        table = output.table(
            *("name", "cases", "patients", "slices", "with infection", "created", "source"), folded=_FOLDED
        )
        for row in rows:
            created = row["created"][:10]
            counts = [str(row[key]) for key in ("cases", "patients", "slices", "positive_slices")]
            table.add_row(row["name"], *counts, created, Text(row["source"]))
        output.console().print(table)


@data.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the cases of a dataset, the newest revision or, as NAME@2, another."""
    dataset = load_dataset(name)
    if as_json:
        cases = [{**dataclasses.asdict(case), "positive_slices": case.positive_slices} for case in dataset.cases]
        print_json({**_summary(dataset), "folder": dataset.folder, "cases": cases})
    else:
        _print_dataset(dataset)


@data.command()
@click.argument("name")
@click.argument("case")
@click.argument("mask", type=click.Path())
@click.option("--role", type=click.Choice(ROLES), default="infection", show_default=True, help="Which mask it is.")
@click.option("--labels", metavar="1,2", help="Labels of the mask that count; all above 0 by default.")
@click.option("--author", default="", help="Who drew it.")
@click.option("--minutes", default=0.0, help="Of work.")
@click.option("--parent", type=click.IntRange(1), help="The dataset's revision that was corrected; the newest.")
def revise(
    name: str, case: str, mask: str, role: Role, labels: str | None, author: str, minutes: float, parent: int | None
) -> None:
    """Store a corrected MASK, a NIfTI file of any program, as a new revision of dataset NAME.

    The masks there are stay, and so do the runs made from them: NAME@1 is the dataset as it was at its first revision.
    """
    from covseg_core.data.library import revisions

    chosen = None if labels is None else _parse_labels(labels)
    voxels, warning = revisions.read_revision(name, case, mask, role, chosen)
    saved = revisions.save_revision(
        name, case, voxels, role, author=author, minutes=minutes, parent=parent, origin=FILE
    )
    if warning:
        click.echo(f"Warning: {warning}", err=True)
    _print_saved(saved, case)
    for other in saved.beside:
        by = f" by {other.author}" if other.author else ""
        click.echo(f"Revision {other.number}{by} was saved meanwhile and is not part of this one; both are kept.")


@data.command()
@click.argument("name")
@click.argument("case")
@click.argument("revision", type=click.IntRange(1))
@click.option("--role", type=click.Choice(ROLES), default="infection", show_default=True, help="Which mask.")
@click.option("--author", default="", help="Who brings it back.")
def restore(name: str, case: str, revision: int, role: Role, author: str) -> None:
    """Have the mask of a CASE as it was at REVISION of dataset NAME count again, as a new revision.

    The masks saved since stay: `covseg data history NAME CASE` lists all.
    """
    from covseg_core.data.library import revisions

    _print_saved(revisions.restore_revision(name, case, revision, role, author=author), case)


@data.command()
@click.argument("name")
@click.argument("case", required=False)
@json_option
def history(name: str, case: str | None, as_json: bool) -> None:
    """List the corrections of a dataset's masks, or all masks that a CASE has had."""
    from covseg_core.data.library import revisions

    entries = revisions.history(load_dataset(name), case)
    if as_json:
        print_json([_entry(entry) for entry in entries])
    elif not entries:
        click.echo(f"No mask of {name} was corrected yet: covseg data revise {name} CASE MASK.")
    else:
        columns = ("revision", "case", "mask", "by", "of", "from", "when", "minutes", "added", "removed")
        table = output.table(*columns, folded={"case", "by", "from"}, right=("minutes", "added", "removed"))
        for entry in entries:
            one = entry.revision
            beside = f" beside {', '.join(map(str, entry.beside))}" if entry.beside else ""
            numbers = ("", "", "") if one.parent is None else (f"{one.minutes:g}", f"{one.added:,}", f"{one.removed:,}")
            of = "" if one.parent is None else f"{one.parent}{beside}"
            table.add_row(
                str(one.number), entry.case, one.role, Text(one.author), of, one.origin, one.created[:16], *numbers
            )
        output.console().print(table)


@data.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a dataset and its copies of the files. Runs trained on it cannot be evaluated any more."""
    dataset = load_dataset(name)
    if not yes:
        click.confirm(f"Delete {name} with {len(dataset.cases)} cases?", abort=True)
    delete_dataset(name)
    click.echo(f"Deleted {name}.")


def case_table(cases: Sequence[Case], width: int) -> tuple[Table, list[str]]:
    """A row for each case, and the warnings that the last column refers to by number, each once."""
    narrow = width < NARROW
    columns = ("case", "patient", "x, y, z", "mm", "axes", "scale", "positive", "warnings")
    shown = [column for column in columns if not (narrow and column == "patient")]
    table = output.table(*shown, folded=_FOLDED)
    warnings = list(dict.fromkeys(warning for case in cases for warning in case.warnings))
    for case in cases:
        patient = "one a slice" if case.stacked else case.patient
        names = [case.id, patient]
        if narrow:
            names = [case.id if patient == case.id else f"{case.id}\n  of {patient}"]
        positive = "no mask" if case.positive_slices is None else f"{case.positive_slices} of {case.slices}"
        spacing = "x".join(f"{size:.3g}" for size in reversed(case.spacing)) if case.spacing_known else "unknown"
        numbers = " ".join(str(number) for number in sorted(1 + warnings.index(warning) for warning in case.warnings))
        shape = "x".join(map(str, reversed(case.shape)))
        table.add_row(*names, shape, spacing, case.orientation, case.scale, positive, numbers)
    return table, warnings


def _print_saved(saved: Saved, case: str) -> None:
    one = saved.revision
    click.echo(
        f"{saved.dataset.reference}: {case} {one.role}, {_count(one.added, 'voxel')} added, {one.removed:,} removed"
    )


def _print_dataset(dataset: Dataset) -> None:
    console = output.console()
    table, warnings = case_table(dataset.cases, console.width)
    console.print(table)
    notes = Table.grid(padding=(0, 1))
    for number, warning in enumerate(warnings, start=1):
        notes.add_row(str(number), Text(warning))
    if warnings:
        console.print("Warnings")
        console.print(notes)
    summary = _summary(dataset)
    lungs = sum(case.lung is not None for case in dataset.cases)
    click.echo(
        f"{dataset.name}: {_count(summary['cases'], 'case')}, {_count(summary['patients'], 'patient')}, "
        f"{_count(summary['slices'], 'slice')} ({summary['positive_slices']} with infection), "
        f"{_count(lungs, 'lung mask')}" + (f", revision {dataset.revision}" if dataset.revision > 1 else "")
    )


def _entry(entry: Entry) -> dict[str, Any]:
    fields = dataclasses.asdict(entry.revision)
    return {
        "case": entry.case,
        **{key: value for key, value in fields.items() if key != "voxels"},
        "beside": entry.beside,
    }


def _summary(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "cases": len(dataset.cases),
        "patients": len(dataset.patients),
        "slices": sum(case.slices for case in dataset.cases),
        "positive_slices": sum(case.positive_slices or 0 for case in dataset.cases),
        "created": dataset.created,
        "source": dataset.source,
        "revision": dataset.revision,
        "fingerprint": dataset.fingerprint,
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _parse_labels(text: str) -> tuple[int, ...]:
    try:
        labels = tuple(int(part) for part in text.split(","))
    except ValueError:
        labels = ()
    if not labels or min(labels) < 1:
        raise SettingError("--labels", repr(text), "whole numbers above 0 with commas, such as 1,2")
    return labels
