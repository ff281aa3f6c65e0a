"""Says that a training has ended where somebody looks at its curves, and in the title of the tab where nobody does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from covseg_core.runs import ACTIVE, State
from dashboard import navigation
from dashboard.formatting import plain
from dashboard.services import model_catalog
from dashboard.services.run_history import Snapshot

_STATES, _ENDED = "monitor_states", "monitor_ended"
"""In the session: the state of each run at the last look; those that have ended since, until the notice is closed."""


_HTML = "<button hidden>Notify me when a training ends</button>"
_CSS = """
button { font: inherit; font-size: 0.875rem; color: var(--st-text-color); background: transparent; cursor: pointer;
         border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); padding: 0.25rem 0.75rem }
button[hidden] { display: none }
"""
_SCRIPT = """
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button"), known = "Notification" in window
  // only a click of the user may ask for the permission, and only where the browser has not been answered yet
  button.hidden = !known || !data.active || Notification.permission !== "default"
  button.onclick = async () => { await Notification.requestPermission(); button.hidden = true }
  if (known && data.told && window.covsegTold !== data.told && Notification.permission === "granted") {
    new Notification("Training ended", { body: data.told })
  }
  window.covsegTold = data.told
}
"""


def follow(seen: Sequence[Snapshot]) -> None:
    """Compare with the last look; draws the page again if a training has ended."""
    before: dict[str, State] = st.session_state.get(_STATES, {})
    now = {item.id: item.status.state for item in seen}
    st.session_state[_STATES] = before | now
    ended = {id: state for id, state in now.items() if before.get(id) in ACTIVE and state not in ACTIVE}
    if ended:
        st.session_state[_ENDED] = st.session_state.get(_ENDED, {}) | ended
        st.rerun()


def notify(names: Mapping[str, str], active: bool) -> None:
    """A notification of the browser for what has ended, if the user has allowed it; the button that asks for that."""
    ended = st.session_state.get(_ENDED, {})
    told = ", ".join(f"{names[id]} {state}" for id, state in ended.items() if id in names)
    component = st.components.v2.component("covseg_notice", html=_HTML, css=_CSS, js=_SCRIPT)
    component(key="monitor_notice", data={"told": told, "active": active})


def show(names: Mapping[str, str]) -> None:
    """A line with what has ended, the link to compare it, and the same in the title of the tab, until it is closed."""
    ended = {id: state for id, state in st.session_state.get(_ENDED, {}).items() if id in names}
    if not ended:
        return
    told = ", ".join(f"{plain(names[id])} {state}" for id, state in ended.items())
    good = all(state == "finished" for state in ended.values())
    st.set_page_config(page_title=f"({len(ended)}) Training ended")
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f":{'green' if good else 'orange'}-badge[:material/notifications: Training ended] {told}")
        if models := model_catalog.compared(ended):
            navigation.link(navigation.COMPARE, query_params={"runs": ",".join(models)})
        st.button("Close", icon=":material/close:", type="tertiary", key="monitor_close", on_click=_close)


def _close() -> None:
    st.session_state[_ENDED] = {}
