"""Entry of the dashboard: `streamlit run dashboard/app.py`.

Streamlit reads this file twice. As a module it finds the server, to which the gate, the receiver of uploads and the
server of volumes are added, and imports what the pages need meanwhile; as a script, for each browser, it sets up the
page and navigates.
"""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboard import navigation, sidebar
from dashboard.services import fragments, gate, startup, upload_receiver, url_state, volume_server


def main() -> None:
    st.set_page_config(
        page_title="covseg",
        # a file, since Streamlit has the browser fetch Material icons for the tab from the internet
        page_icon=Path(__file__).with_name("icon.svg"),
        layout="wide",
        menu_items={"About": "**covseg** trains and compares U-Nets on chest CT. For research; not for diagnosis."},
    )

    page = st.navigation(navigation.pages())
    if url_state.enter(page.url_path):
        fragments.forget()
    page.run()
    sidebar.show()  # the page has chosen a dataset by now


if __name__ == "__main__":
    main()
else:
    startup.start()
    middleware = [Middleware(gate.Gate), Middleware(upload_receiver.Receiver), Middleware(volume_server.Server)]
    app = st.App(__file__, middleware=middleware)
