"""Backbone families: each is one object in one file, which says everything about its backbones.

has(name)        whether a name is one of its own
check(name)      refuses a name before anything is loaded
is_file(name)    whether the weights are a file of the user's
input(name)      size, mean, std, interpolation and resizing of the pictures
digest(name)     SHA-256 of the weights
fetch(name)      downloads weights whose digest is known only then
slug(name)       form in a folder name
absolute(name)   the name as it is true in any folder
load(name, ...)  the CLIP; what depends on its weights is said by that object (clipfit/clip.py): tokenizer,
                 context length, logit scale, activation, whether its text tower takes embeddings

How blocks and norms are found is the same for all: by their roles (clipfit/groups.py). Importing this package
imports no torch. clipfit/backbones.py knows all families.
"""
