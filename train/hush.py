"""torchrun's launcher logs every signal, restart and failure; we report the important ones ourselves."""

from __future__ import annotations

import logging
import os

_LOGGER = "torch.distributed.elastic"


def hush_launcher() -> None:
    """Drop what torch's launcher logs in this process, unless LOGLEVEL or TORCH_LOGS ask for it.

    A level on the parent is not enough: torch gives several of its child loggers their own levels.
    """
    if "LOGLEVEL" in os.environ or "TORCH_LOGS" in os.environ:
        return
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(logging.NullHandler())  # without any, Python prints warnings by itself
    logger.propagate = False
