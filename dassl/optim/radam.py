"""The path under which plugins of Dassl import RAdam."""

from dassl.optim.for_plugins import RAdam

__all__ = ["RAdam"]
