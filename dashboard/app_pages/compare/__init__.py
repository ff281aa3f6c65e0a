"""Compare: every model with every measure on the same test slices, the verdict, the slices, and what explains them.

A module that has `show` is a panel; the others compute what panels show.
"""
