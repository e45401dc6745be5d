"""Own pictures in the forms that people and their tools keep them in; datasets/photos.py is the data set.

`forms.read_pictures` finds out the form and hands over to its reader: folders.py, tables.py, fiftyone.py,
label_studio.py. `taken.take` then leaves out what cannot be used and gives every picture its part.
"""
