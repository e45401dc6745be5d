"""Programs around the data folders; training needs none of them. They use the loaders, never the other way.

doctor.py       looks at a folder and says what is wrong: findings.py, layout.py, lists.py
prepare.py      fetches a data set into its folder: downloads.py, archives.py
catalog.py      facts of the published data sets; published.json: CoOp's digests of them
known.py        every data set that the two programs know, the embedded ones too
"""
