"""Entry of the dashboard: `streamlit run dashboard/app.py`.

Streamlit reads this file twice. As a module it finds the server, to which the receiver of uploads is added, and imports
what the pages need meanwhile; as a script, for each browser, it sets up the page and navigates.
"""

from pathlib import Path

import receiving
import streamlit as st
import warming
from starlette.middleware import Middleware


def main() -> None:
    st.set_page_config(
        page_title="covseg",
        # a file, since Streamlit has the browser fetch Material icons for the tab from the internet
        page_icon=Path(__file__).with_name("icon.svg"),
        layout="wide",
        menu_items={"About": "**covseg** trains and compares U-Nets on chest CT. For research; not for diagnosis."},
    )

    page = st.navigation(
        [
            st.Page("app_pages/train.py", title="Data and training", icon=":material/database:", default=True),
            st.Page("app_pages/monitor.py", title="Live curves", icon=":material/monitoring:", url_path="monitor"),
            st.Page("app_pages/compare.py", title="Compare", icon=":material/compare:", url_path="compare"),
            st.Page("app_pages/predict.py", title="Quick prediction", icon=":material/bolt:", url_path="predict"),
        ]
    )
    page.run()


if __name__ == "__main__":
    main()
else:
    warming.start()
    app = st.App(__file__, middleware=[Middleware(receiving.Receiver)])
