"""fit/: a trained model in two files, which need neither the pictures trained on nor the trainers.

files.py    the format: what is in the folder, written and read
model.py    a fit in memory: predict, encode pictures, take other classes
predict.py  any number of pictures through a fit, to CSV, JSON Lines, FiftyOne's labels.json and folders
compare.py  what changed most in a fit, and the average of several
"""
