"""The host card: what this machine is, and what it measures on the data's own files."""

from fastpipe.profiling.host.collect import SCHEMA_VERSION as SCHEMA_VERSION
from fastpipe.profiling.host.collect import make_card as make_card
from fastpipe.profiling.host.collect import quick_card as quick_card

__all__ = ["SCHEMA_VERSION", "make_card", "quick_card"]
