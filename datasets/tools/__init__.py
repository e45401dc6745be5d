"""Programs around the data folders; training needs none of them. They use the loaders, never the other way.

doctor.py       looks at a folder and says what is wrong: findings.py, layout.py, lists.py
prepare.py      brings a data set into its folder: bring.py, and what it uses
                brought.py    files that lie there already, recognised by size and checksum
                elsewhere.py  folders that were unpacked somewhere else
                mirrors.py    a yes to copies by third parties
                room.py       the room that is needed
                unpack.py     from an archive to what it gives; archives.py
links.py        whether the addresses still answer
known.py        every registered data set, with or without facts; published.json: CoOp's digests of some
sources.py      where the files of a data set come from, as its facts say it
"""
