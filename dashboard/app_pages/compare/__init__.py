"""Compare: every model with every measure on the same test slices, the verdict, the slices, and what explains them.

A module without an underscore in Streamlit's sense is a panel if it has `show`; the others compute what panels show.
"""
