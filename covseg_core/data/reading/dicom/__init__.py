"""DICOM: which series a folder holds, what is wrong with each, and one of them as a volume.

`headers` finds the files and reads a few tags of each; `parts` separates what one series number should not hold
together; `slice_order` puts slices in order, `grid` into one regular grid; `pixels` makes HU of one file; `series` and
`loading` are the way in.

No tag that names or describes a person leaves `headers`: there they are not read, but for a hash of the patient's id.
"""

from covseg_core.data.reading.dicom.loading import load_series
from covseg_core.data.reading.dicom.series import Found, Series, find_series, search, series_of

__all__ = ["Found", "Series", "find_series", "load_series", "search", "series_of"]
