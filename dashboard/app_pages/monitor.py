"""Live curves."""

import streamlit as st

st.title("Live curves")
