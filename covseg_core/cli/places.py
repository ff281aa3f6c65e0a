"""`covseg places ...`."""

from __future__ import annotations

import dataclasses

import click

from covseg_core.cli.output import console, json_option, print_json, table
from covseg_core.places import Slurm, place_named, place_names
from covseg_core.runs import place_check


@click.group()
def places() -> None:
    """List and check the places where runs are trained: this machine, and those in places.toml."""


@places.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All places, and what each asks for."""
    found = [place_named(name) for name in place_names()]
    if as_json:
        print_json([{"name": place.name} | dataclasses.asdict(place) for place in found])
        return
    rows = table("place", "kind", "settings", folded=["settings"])
    for place in found:
        asked = {name: value for name, value in dataclasses.asdict(place).items() if value and name != "name"}
        words = ", ".join(f"{name} {_plain(value)}" for name, value in asked.items())
        rows.add_row(place.name, "slurm" if isinstance(place, Slurm) else "local", words)
    console().print(rows)


@places.command()
@click.argument("place")
@click.option(
    "--patience", type=float, default=place_check.PATIENCE, show_default=True, help="Seconds to wait for the job."
)
@json_option
def check(place: str, patience: float, as_json: bool) -> int:
    """Find out whether a PLACE would train runs, on SLURM by a small job; the exit code is 2 if not."""
    found = place_check.check(place, patience)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
    else:
        for one in found:
            click.echo(f"{'WRONG' if one.wrong else 'ok':5}  {one.what}: {one.found}")
    return 2 * any(one.wrong for one in found)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
