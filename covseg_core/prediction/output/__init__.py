"""The files of a prediction: its folder, masks, report as JSON, CSV and a page to print, DICOM SEG."""
