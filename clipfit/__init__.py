"""CLIP as the trainers see it: loading, text encoding, prompts and parameter groups.

Nothing here knows a trainer or a data set. Modules and tokenizer are those of the `clip` package; the forward
pass through the text encoder is ours (clipfit/text.py).
"""
