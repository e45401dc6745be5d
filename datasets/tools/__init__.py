"""Programs around the data folders; training needs none of them. They use the loaders, never the other way.

doctor.py       looks at a folder and says what is wrong: findings.py, layout.py, lists.py
prepare.py      fetches a data set into its folder: downloads.py, archives.py
known.py        every registered data set, with or without facts; published.json: CoOp's digests of some
sources.py      where the files of a data set come from, as its facts say it
"""
