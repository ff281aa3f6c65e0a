"""Quick prediction."""

import streamlit as st

st.title("Quick prediction")
