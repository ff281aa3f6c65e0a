"""`covseg review`: what readers say of masks, which masks to look at first, and how far readers agree."""

from __future__ import annotations

import click
from rich.text import Text

from covseg_core.cli.output import console, json_option, print_json, table
from covseg_core.data.library.datasets import ROLES, load_dataset
from covseg_core.data.library.reviews import DECISIONS, GRADES, Decision, add_review, current, read_reviews
from covseg_core.data.library.revision import Role

GRADING = "; ".join(f"{number}: {meaning}" for number, meaning in GRADES.items()) + "."

role_option = click.option(
    "--role", type=click.Choice(ROLES), default="infection", show_default=True, help="Which of the masks."
)


@click.group()
def review() -> None:
    """Accept or reject masks, and see what readers say of them."""


@review.command("list")
@click.argument("name", metavar="DATASET")
@click.option("--reader", default="", help="Leave out what this reader has seen or drawn.")
@click.option(
    "--order", type=click.Choice(["name", "size", "agreement", "quality", "doubt"]), default="name", show_default=True,
    help="doubt: masks first that RUNs doubt, which never saw them; quality: masks that models made, by their expected "
    "Dice; agreement: masks that models made and agreed least on; size: the largest.",
)  # fmt: skip
@click.option("--run", "run_ids", metavar="RUN", multiple=True, help="For --order doubt; repeatable.")
@role_option
@json_option
def list_(name: str, reader: str, order: str, run_ids: tuple[str, ...], role: Role, as_json: bool) -> None:
    """List the masks of DATASET that wait for a review, those that are most worth the time first."""
    from covseg_core.errors import SettingError
    from covseg_core.evaluation.review_queue import ORDERS, queue
    from covseg_core.runs import open_runs

    if (order == "doubt") != bool(run_ids):
        raise SettingError("--run", "with --order doubt only" if run_ids else "nothing", "a run for --order doubt")
    dataset = load_dataset(name)
    runs = list(dict.fromkeys(run for id in run_ids for run in open_runs(id)))
    [chosen] = [one for one in ORDERS if one == order]
    rows = queue(dataset, role, reader, chosen, runs)
    said = {one.case: one for one in current(dataset, role, read_reviews(dataset))}
    if as_json:
        print_json([{"case": row.case, "value": row.value, "last_review": said.get(row.case)} for row in rows])
        return
    lines = table("case", order if order != "name" else "", "last review", folded=["case"], right=[order])
    for row in rows:
        last = said.get(row.case)
        words = f"{last.decision} by {last.reader}" + (f", grade {last.grade}" if last.grade else "") if last else ""
        lines.add_row(row.case, "" if row.value is None else f"{row.value:,.3g}", Text(words))
    console().print(lines)
    click.echo(f"{len(rows)} of {sum(role in case.files for case in dataset.cases)} masks wait for a review.")


@review.command()
@click.argument("name", metavar="DATASET")
@click.argument("case")
@click.argument("decision", type=click.Choice(DECISIONS))
@click.option("--reader", required=True, help="Who looked at it.")
@click.option("--grade", type=click.IntRange(1, 5), help=GRADING)
@click.option("--note", default="", help="In words.")
@click.option("--revision", type=click.IntRange(1), help="Of the mask that was looked at; the newest.")
@role_option
def add(
    name: str,
    case: str,
    decision: Decision,
    reader: str,
    grade: int | None,
    note: str,
    revision: int | None,
    role: Role,
) -> None:
    """Say of a CASE's mask that it is accepted, was corrected, or is rejected."""
    stored = add_review(name, case, decision, reader, role, grade=grade, note=note, revision=revision)
    click.echo(f"{name}/{case}: {role} mask of revision {stored.revision} {decision} by {stored.reader}")


@review.command()
@click.argument("name", metavar="DATASET")
@role_option
@json_option
def readers(name: str, role: Role, as_json: bool) -> None:
    """How far each two readers of DATASET agree: decisions, weighted kappa of grades, Dice of what they have drawn."""
    from covseg_core.evaluation.reader_agreement import reader_agreement

    dataset = load_dataset(name)
    found = reader_agreement(dataset, role, read_reviews(dataset))
    if as_json:
        print_json(found)
        return
    numbers = ["seen", "same decision", "graded", "kappa", "drawn", "dice"]
    lines = table("readers", *numbers, folded=["readers"], right=numbers)
    for one in found:
        shares = [None if share is None else f"{share:.2f}" for share in (one.same_decision, one.kappa, one.dice)]
        same, kappa, dice = (share or "" for share in shares)
        lines.add_row(
            Text(" and ".join(one.readers)), str(one.reviewed), same, str(one.graded), kappa, str(one.drawn), dice
        )
    console().print(lines)
    if not found:
        click.echo("No two readers have looked at the same mask, or drawn masks of the same case, yet.")
