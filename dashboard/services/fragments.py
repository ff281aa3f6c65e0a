"""Parts of a page that look again by themselves, and that must end with their page."""

from __future__ import annotations

from streamlit.runtime.scriptrunner import get_script_run_ctx


def forget() -> None:
    """Forget those of the page before, as soon as another one is drawn.

    A browser that has not heard of the new page yet still asks for them. Streamlit answers in the name of the old page,
    once it has drawn the new one; upon that the browser takes everything away, and then breaks over what comes next
    ("Bad delta path index"). What is not known any more is not answered.
    """
    if (context := get_script_run_ctx()) is not None:
        context.fragment_storage.clear()
