"""`fastpipe.DataLoader` and its parts: what was asked, the plan, an epoch, the state."""

from fastpipe.loader.dataloader import DataLoader as DataLoader

__all__ = ["DataLoader"]
