"""How the embedded data sets are made: picture.py draws one picture, folder.py a whole folder."""
