"""A link is sent to a colleague: it must show the same view, and a link that is wrong must not break the page."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

READ = """
from dashboard.services import url_state
import streamlit as st
st.session_state.found = [
    url_state.read("dataset", "first"),
    url_state.read("dataset", "first", ["first", "second"]),
    url_state.read("runs", ["a"], ["a", "b", "c"]),
    url_state.read("slice", 5, range(10)),
    url_state.read("threshold", 0.5),
]
"""


def run(script: str, **link: str) -> AppTest:
    app = AppTest.from_string(script, default_timeout=60)
    for name, value in link.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def found(**link: str) -> list[object]:
    return run(READ, **link).session_state.found


def written(app: AppTest) -> dict[str, str]:
    """The URL's values; a list of one is how AppTest shows a text."""
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def test_a_link_is_read_in_the_types_of_the_page() -> None:
    assert found(dataset="second", runs="c,b", slice="7", threshold="0.35") == ["second", "second", ["c", "b"], 7, 0.35]


def test_without_a_link_the_page_opens_as_it_would() -> None:
    assert found() == ["first", "first", ["a"], 5, 0.5]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ({"dataset": "deleted"}, ["deleted", "first", ["a"], 5, 0.5]),
        ({"runs": "b,deleted,b,,"}, ["first", "first", ["b"], 5, 0.5]),
        ({"runs": "deleted"}, ["first", "first", ["a"], 5, 0.5]),
        ({"slice": "99", "threshold": "half"}, ["first", "first", ["a"], 5, 0.5]),
        ({"slice": "7.5", "dataset": "", "runs": ""}, ["first", "first", ["a"], 5, 0.5]),
    ],
)
def test_an_old_or_mistyped_link_opens_what_is_left_of_it(link: dict[str, str], expected: list[object]) -> None:
    assert found(**link) == expected


def test_what_is_written_is_read_again() -> None:
    link = written(run('from dashboard.services import url_state\nurl_state.write(dataset="second", runs=["c", "b"])'))
    assert link == {"dataset": "second", "runs": "c,b"}
    assert found(**link)[:3] == ["second", "second", ["c", "b"]]


def test_what_is_not_chosen_any_more_leaves_the_link() -> None:
    script = 'from dashboard.services import url_state\nurl_state.write(dataset="", runs=[], case=None)'
    assert written(run(script, dataset="x", runs="a", case="c", other="kept")) == {"other": "kept"}


def test_nothing_is_sent_when_nothing_changes() -> None:
    """Each message with a new URL is a step in the browser's history: back would lead to the same view."""
    script = """
from dashboard.services import url_state
import streamlit as st
from streamlit.runtime.state.query_params import QueryParams
sent = []
original = QueryParams._send_query_param_msg
QueryParams._send_query_param_msg = lambda params: sent.append(str(params))
try:
    url_state.write(runs=["a", "b"], case="c", dataset=None)
    unchanged = len(sent)
    url_state.write(runs=["a"], case="c")
finally:
    QueryParams._send_query_param_msg = original
st.session_state.sent = unchanged, len(sent)
"""
    assert run(script, runs="a,b", case="c").session_state.sent == (0, 1)


def test_slice_and_threshold_are_written_through_their_sliders() -> None:
    """Streamlit keeps them in step with the URL, and raises for who writes there as well."""
    script = """
from dashboard.services import url_state
import streamlit as st
url_state.write(slice=4, threshold=0.25)
st.slider("Slice", 0, 9, 5, key="slice", bind="query-params")
st.slider("Threshold", 0.0, 1.0, 0.5, key="threshold", bind="query-params")
st.session_state.found = url_state.read("slice", 0), url_state.read("threshold", 0.0)
"""
    app = run(script)
    assert [slider.value for slider in app.slider] == [4, 0.25]
    assert app.session_state.found == (4, 0.25)
    app.slider[0].set_value(8).run()
    assert not app.exception
