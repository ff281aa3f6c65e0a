"""Many scans in one call: which lie below some paths, their masks by processes that keep the models, and one table.

Each scan has a folder of its own, as one prediction has. What is done stands in `cohort.json`, so that a call that was
ended, by whatever, goes on where it was. No file but `sources.json` tells where a scan lay or what it was called.

`found` says which scans there are, `names` what they are called, `one` predicts one of them in a process of its own,
`predict` is the way in, `state` what is remembered, `table`, `page` and `timeline` what people look at.
"""
