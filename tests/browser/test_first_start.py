"""What somebody sees who starts covseg for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from .conftest import Open

PAGES = {
    "": "Data and training",
    "monitor": "Live curves",
    "runs": "Runs",
    "compare": "Compare",
    "predict": "Quick prediction",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_empty_page_says_what_to_do(visit: Open, theme: str) -> None:
    """Who comes to a page too early must find the way to the right one, and see it in the theme of the computer."""
    user = visit(color_scheme=theme)
    for path, title in PAGES.items():
        user.go(title)
        if path:
            expect(user.main.get_by_role("link", name="data and training").first).to_be_visible()
        else:
            user.sees("Start with some data")
    background = user.page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (brightness > 128) == (theme == "light"), background
