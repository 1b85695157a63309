"""`--nproc N`: torchrun's own launcher with N processes on this machine, and its exit statuses.

The processes run `python -m fastpipe.train` with the same options. The launcher passes signals on to them,
waits until they have saved, and ends all of them when one fails.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import psutil

from fastpipe.errors import ArgumentError
from fastpipe.system.stop_signals import exit_status, listening, stop_early

# Tells the processes that this launcher has started them, not the user's torchrun.
LAUNCHED = "FASTPIPE_TRAIN_LAUNCHED"
_GRACE_S = 120


def launch(nproc: int, args: Sequence[str], *, on_cpu: bool = False) -> int:
    """Run `fastpipe-train ARGS` in `nproc` processes. Returns the exit status: the first failure's.

    A process killed by signal n counts as 128 + n. on_cpu: they use no GPU, so there may be more than GPUs.
    """
    _check(nproc, on_cpu)
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cpus() // nproc)))
    # How long torchrun waits for the others after one process has ended: long enough for their messages.
    # Older torch does not read this variable.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_GRACE_S))
    os.environ[LAUNCHED] = "1"
    # torchrun logs every signal and restart; the important ones are reported here.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port
        local_addr="localhost",
        max_restarts=0,
    )
    command = ["-P", "-m", "fastpipe.train", *args]
    try:
        with listening(_pass_on):
            elastic_launch(config, sys.executable)(*command)
    except SignalException as stopped:  # one that this process does not listen to, such as SIGQUIT
        return exit_status(stopped.sigval)
    except ChildFailedError as error:
        return _explained(error)
    return 0


def _check(nproc: int, on_cpu: bool) -> None:
    if nproc < 1:
        raise ArgumentError(f"--nproc must be at least 1. Found: {nproc}")
    if "TORCHELASTIC_RUN_ID" in os.environ or "RANK" in os.environ:
        raise ArgumentError("--nproc starts the processes itself: leave out either --nproc or torchrun")
    import torch

    gpus = torch.cuda.device_count()
    if torch.cuda.is_available() and nproc > gpus and not on_cpu:
        raise ArgumentError(f"--nproc must be at most the number of GPUs here ({gpus}). Found: {nproc}")


def _cpus() -> int:
    from fastpipe.system.machine import this_machine

    return int(this_machine().cpus)


def _pass_on(number: int) -> None:
    """Pass the signal to the ranks, which then end themselves; before there are ranks, end here."""
    ranks = psutil.Process().children()
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.send_signal(number)
    if not ranks:
        stop_early(number)


def _explained(error: Any) -> int:
    rank, failure = error.get_first_failure()
    code = int(failure.exitcode)
    if code < 0:
        sys.stderr.write(
            f"fastpipe-train: error: rank {rank} was killed by signal {-code}; the others stopped\n"
        )
        return 128 - code
    if code < 128 and code != exit_status(signal.SIGUSR1):
        sys.stderr.write(
            f"fastpipe-train: rank {rank} failed first, with status {code}; see its error above\n"
        )
    return code


def record_failure(error: BaseException) -> None:
    """Write the error to torchrun's error file, so that its report names the rank that failed first."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
