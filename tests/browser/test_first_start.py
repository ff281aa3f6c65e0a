"""What somebody sees who starts covseg for the first time."""

from __future__ import annotations

import pytest
from conftest import Open
from playwright.sync_api import expect

PAGES = {"": "Data and training", "monitor": "Live curves", "compare": "Compare", "predict": "Quick prediction"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_empty_page_says_what_to_do(open_page: Open, theme: str) -> None:
    """Who comes to a page too early must find the way to the right one, and see it in the theme of the computer."""
    page = open_page(color_scheme=theme)
    for path, title in PAGES.items():
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
        expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
        if path:
            expect(page.get_by_test_id("stMain").get_by_role("link", name="data and training").first).to_be_visible()
    background = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (brightness > 128) == (theme == "light"), background
