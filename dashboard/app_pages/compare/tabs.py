"""The tabs of the Compare page. The open one is in the link, and only what is in it is computed."""

from __future__ import annotations

KEY = "tab"
"""In the link and in the session."""
SUMMARY, SLICES, STATISTICS, FAILURES, EXPORT = NAMES = ("Summary", "Slices", "Statistics", "Failures", "Export")
