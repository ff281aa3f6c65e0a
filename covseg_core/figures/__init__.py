"""Plotly figures, for the dashboard, for notebooks and for the evidence bundle."""
