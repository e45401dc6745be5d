"""A paper's figures: which runs they show, their numbers, their drawing.

loading.py                  all of them, from the paper's figures.yaml
definition.py               what every figure has: its runs, when it is drawn again
training.py, features.py, sensitivity.py, from_tables.py   runs and tables -> panels
panels.py                   numbers to draw, as plain data
plots.py, style.py          panels -> PNG and PDF

Torch, scikit-learn and matplotlib are imported only when something must be drawn.
"""

from .loading import load

__all__ = ["load"]
