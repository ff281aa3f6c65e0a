"""The dashboard: a multipage Streamlit app on top of `covseg_core`.

`app.py` is the entry, `navigation.py` names the pages, `app_pages/` holds a folder for each page, `components/` what
several pages draw, `services/` what several pages need and nobody sees. Imports run down in this order; `docs/` has the
map, and tests/test_architecture.py holds it.
"""
