"""CLIP as the trainers see it: loading, text encoding, prompts and parameter groups.

Nothing here knows a trainer or a data set. The modules have OpenAI's parameter names (clipfit/modules/).
Importing this package imports neither torch nor torchvision.
"""

__version__ = "0.1.0"
