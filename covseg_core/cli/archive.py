"""`covseg archive`: series of the hospital's archive, over DICOMweb."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table


@click.group()
def archive() -> None:
    """Find series in an archive of images, fetch them, and send results back.

    The archives are tables of `archives.toml`: see docs/how-to/archive.md.
    """


@archive.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the archives that are set up."""
    from covseg_core import paths
    from covseg_core.archive.settings import archive_named, archive_names

    found = [archive_named(name) for name in archive_names()]
    if as_json:
        print_json(found)
    elif not found:
        click.echo(f"No archive yet: docs/how-to/archive.md says what to write into {paths.archives_file()}.")
    else:
        lines = table("archive", "address", "user", folded=["archive", "address", "user"])
        for one in found:
            lines.add_row(Text(one.name), Text(one.url), Text(one.user))
        console().print(lines)


@archive.command()
@click.argument("name", metavar="ARCHIVE")
@click.option("--patient", default="", help="Patient ID or pseudonym; * stands for any letters.")
@click.option("--date", default="", help="Of the study: YYYYMMDD, or YYYYMMDD-YYYYMMDD.")
@click.option("--modality", default="CT", show_default=True, help="Empty for all.")
@click.option("--most", default=100, show_default=True, help="Series at most.")
@json_option
def find(name: str, patient: str, date: str, modality: str, most: int, as_json: bool) -> None:
    """List series of ARCHIVE, the newest study first."""
    from covseg_core.archive.search import find_series
    from covseg_core.archive.settings import archive_named

    found = find_series(archive_named(name), patient, date, modality, most)
    if as_json:
        print_json(found)
        return
    lines = table(
        "patient",
        "date",
        "images",
        "description",
        "study",
        "series",
        folded=["patient", "description", "study", "series"],
    )
    for one in found:
        images = "" if one.images is None else f"{one.images:,}"
        lines.add_row(
            Text(one.patient), Text(one.date), images, Text(one.description), Text(one.study), Text(one.series)
        )
    console().print(lines)
    click.echo(f"{len(found)} series{'; there may be more: --most' if len(found) == most else ''}")


@archive.command()
@click.argument("name", metavar="ARCHIVE")
@click.argument("study")
@click.argument("series")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
def fetch(name: str, study: str, series: str, output: Path) -> None:
    """Bring a series of ARCHIVE here, as a folder that `covseg predict` and `covseg data add` read."""
    from covseg_core.archive.settings import archive_named
    from covseg_core.archive.transfer import fetch_series

    with progress_bar("Fetching") as progress:
        fetch_series(archive_named(name), study, series, output, progress)
    click.echo(f"{len(list(output.iterdir())):,} images in {output}")


@archive.command()
@click.argument("name", metavar="ARCHIVE")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def send(name: str, files: tuple[Path, ...]) -> None:
    """Store DICOM FILES in ARCHIVE, such as the mask.dcm and measures.dcm of a prediction.

    They are filed by what they name: predict with --keep-patient to have patient and study in them.
    """
    from covseg_core.archive.settings import archive_named
    from covseg_core.archive.transfer import send_files

    with progress_bar("Sending") as progress:
        count = send_files(archive_named(name), files, progress)
    click.echo(f"{count} file{'s' * (count != 1)} stored in {name}")
