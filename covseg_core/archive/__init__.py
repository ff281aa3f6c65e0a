"""The hospital's archive of images (PACS), reached over DICOMweb: find a series, fetch it, send results back.

Needs `dicomweb-client`, the optional extra `pacs`. `settings` says which archives there are, `search` finds series,
`transfer` moves them. Nothing of what an archive says is kept but the files that were asked for.
"""
