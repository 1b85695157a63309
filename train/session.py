"""From a parsed command line to an exit status: in this process, or in several."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence

from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError
from fastpipe.system.stop_signals import exit_status
from fastpipe.train.broken import IN_OPTIONS, in_options
from fastpipe.train.config.checks import check_on_error, check_world_size
from fastpipe.train.config.options import Invocation
from fastpipe.train.errors import PeerError, StoppedError
from fastpipe.train.hush import hush_launcher
from fastpipe.train.launch import launch, record_failure
from fastpipe.train.runner import run
from fastpipe.train.seeds import run_seeds

# The launcher looks at its processes every 0.1 s (torchrun's default), and must see the first failure
# before the others.
_AFTER_THE_FIRST_S = 2.0


def start(invocation: Invocation, args: Sequence[str]) -> int:
    """Train, in `--nproc` processes if requested. Returns the exit status."""
    nproc = invocation.options.nproc
    if nproc is not None:
        check_on_error(invocation.config, nproc)
        if "batch_size" in invocation.explicit:  # said once, before anything starts
            check_world_size(invocation.config, nproc)
        hush_launcher()
        return launch(nproc, without_nproc(args), on_cpu=invocation.options.device == "cpu")
    logging.getLogger("fastpipe").addFilter(IN_OPTIONS)
    try:
        train = run if invocation.options.seeds is None else run_seeds
        train(
            invocation.config,
            invocation.options,
            explicit=invocation.explicit,
            recipe_batch_size=invocation.recipe_batch_size,
        )
    except StoppedError as stopped:
        return exit_status(stopped.number)
    except KeyboardInterrupt:
        _say("interrupted. --resume auto continues after the last checkpoint")
        return 130
    except PeerError as error:
        time.sleep(_AFTER_THE_FIRST_S)
        _say(str(error))
        return 1
    except (FastpipeError, OSError) as error:
        record_failure(error)
        _say(f"error: {in_options(error)}")
        return 2 if isinstance(error, ArgumentError | MissingExtraError) else 1
    except Exception as error:
        record_failure(error)
        raise
    return 0


def _say(text: str) -> None:
    rank = os.environ.get("RANK")
    sys.stderr.write(
        f"fastpipe-train: {text}\n" if rank is None else f"fastpipe-train: rank {rank}: {text}\n"
    )


def without_nproc(args: Sequence[str]) -> list[str]:
    """The options for each process: all but `--nproc N` and `--nproc=N`."""
    kept, after_option = [], False
    for arg in args:
        if after_option:
            after_option = False
        elif arg == "--nproc":
            after_option = True
        elif not arg.startswith("--nproc="):
            kept.append(arg)
    return kept
