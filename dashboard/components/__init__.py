"""Widgets that more than one page draws."""
