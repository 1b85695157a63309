"""`fastpipe.DataLoader` and its parts: the arguments, the plan, an epoch, the state."""

from fastpipe.loader.dataloader import DataLoader as DataLoader

__all__ = ["DataLoader"]
