"""clipfit export: a fit as files that other libraries load, one file here per ecosystem.

ecosystems.py      the table of ecosystems, and what each asks of a fit
command.py         the command line
merged.py          what all exports are made of: merged tensors, labels, prompts, class features
parts.py           files that several exports share
card.py            README.md, the model card
openai.py, open_clip.py, transformers.py, peft.py, onnx.py, torch_export.py, clip_benchmark.py
                   write(fit, folder) -> the lines of Python that load it
"""
