"""Entry of the dashboard: `streamlit run dashboard/app.py`. Page configuration and navigation, nothing else."""

from pathlib import Path

import streamlit as st

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
