"""The plugin engine: configuration, registries, data, life cycle, evaluation, checkpoints.

It offers the public interface of Dassl, so that trainers and data sets written against that interface import
and run here unchanged. It knows no CLIP, no method and no data set. Importing `dassl` or `dassl.config`
imports no torch.
"""
