"""Each campaign in small; `make campaign` does them in full. What is lost if one fails stands in its module."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.__main__ import HEAD, PAGE, kept, named, written
from campaigns.row import Row

CAMPAIGNS = [
    pytest.param(name, marks=[pytest.mark.timeout(1500), pytest.mark.training] if campaign.TRAINS else [])
    for name, campaign in named().items()
]


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_in_small_nothing_fails(name: str, request: pytest.FixtureRequest) -> None:
    campaign = named()[name]
    if campaign.TRAINS:
        request.getfixturevalue("trained")  # so that no campaign needs a training of its own to compare with
    row = campaign.run(campaign.SMALL, seed=1)
    assert row.count == campaign.SMALL
    assert row.failures == []


def test_a_failure_is_named_in_the_table() -> None:
    name = next(iter(named()))
    line = written(name, Row(1200, ["first | of\nall", "second"]), 61.4)
    assert "| 1,200 | 2: first / of all; second | 61 |" in line
    page = kept(f"# Title\n\n{HEAD}| aaa | 1 |\n| {name} | old |\n\nEnd.\n", name, line)
    assert page.startswith("# Title")
    assert page.endswith("|\n\nEnd.\n")
    assert line in page
    assert "old" not in page
    assert "| aaa | 1 |\n" in page


def test_what_is_raised_is_a_failure_and_not_the_end() -> None:
    row = Row()
    row.attempt("first", lambda: 1 / 0)
    row.attempt("second", lambda: None)
    assert (row.count, row.failures) == (2, ["first: ZeroDivisionError: division by zero"])


def test_the_page_has_room_for_the_table() -> None:
    """Else rows of hours would be lost."""
    page = kept(PAGE.read_text(encoding="utf-8"), "new", "| new | row |")
    assert page.count("| new | row |\n") == 1
    assert kept(page, "new", "| new | later |").count("| new |") == 1


def test_no_campaign_is_left_out() -> None:
    files = {path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef run(" in path.read_text()}
    assert files == set(named())
