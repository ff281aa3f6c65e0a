"""The pages: file, title, icon and address of each, said once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st


@dataclass(frozen=True)
class Entry:
    """A page as the menu and links know it."""

    path: str
    """Its file, from the folder of `app.py`."""
    title: str
    icon: str
    url: str
    """What the address ends with; empty for the page that opens first."""


TRAIN = Entry("app_pages/train/page.py", "Data and training", ":material/database:", "")
MONITOR = Entry("app_pages/monitor/page.py", "Live curves", ":material/monitoring:", "monitor")
RUNS = Entry("app_pages/runs/page.py", "Runs", ":material/table_rows:", "runs")
COMPARE = Entry("app_pages/compare/page.py", "Compare", ":material/compare:", "compare")
PREDICT = Entry("app_pages/predict/page.py", "Quick prediction", ":material/bolt:", "predict")
REVIEW = Entry("app_pages/review/page.py", "Review", ":material/fact_check:", "review")
PAGES = (TRAIN, REVIEW, MONITOR, RUNS, COMPARE, PREDICT)
"""In the order of the menu."""


def pages() -> list[st.Page]:
    """As `st.navigation` takes them."""
    return [
        st.Page(entry.path, title=entry.title, icon=entry.icon, url_path=entry.url or None, default=not entry.url)
        for entry in PAGES
    ]


def link(entry: Entry, label: str | None = None, **options: Any) -> None:
    """A link to a page; options as of `st.page_link`."""
    st.page_link(entry.path, label=label or entry.title, icon=entry.icon, **options)


def go(entry: Entry, **query: str) -> None:
    """Show another page, with these query parameters, instead of what is left of this one."""
    st.switch_page(entry.path, query_params=query)
