"""One process among several that train together: its rank, its device, and their communication.

torchrun, which `fastpipe-train --nproc` calls, sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. CPU
tensors travel by gloo, CUDA tensors by NCCL, so that agreeing on something never waits for a GPU. With one
process no group is made and every function here answers at once.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, FastpipeError
from fastpipe.system.files import file_lock, make_dir, user_cache_dir
from fastpipe.train.errors import DivergedError, PeerError, StoppedError
from fastpipe.types import Shard

T = TypeVar("T")

# Rank 0 may write a checkpoint to a slow disk, or measure backends, while the others wait in a collective.
_TIMEOUT = timedelta(minutes=30)


def current_shard() -> Shard:
    """This process's rank and the number of processes, as torchrun says; rank 0 of 1 without it."""
    return Shard(rank=_number("RANK", 0), world_size=_number("WORLD_SIZE", 1))


def local_world_size() -> int:
    """The training processes on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise ArgumentError(f"the environment variable {name} must be a number. Found: {text!r}")
    return int(text)


def device_of_rank() -> torch.device:
    """The GPU with the number of LOCAL_RANK, made the current one, or the CPU if there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local, count = _number("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= count:
        raise ArgumentError(
            f"every process needs its own GPU, and this machine has {count}. Found: LOCAL_RANK={local}. "
            f"Start at most {count} processes per machine (--nproc {count})"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def device_named(text: str | None) -> torch.device:
    """The device of `--device`, made the current one if it is a GPU.

    None or auto: `device_of_rank`. cpu: even with a GPU. cuda: this rank's GPU. cuda:N: that GPU, for one
    process alone. Raises ArgumentError for another word, and for a GPU that is not here.
    """
    kind, _, number = (text or "auto").partition(":")
    if kind not in ("auto", "cpu", "cuda") or (
        ":" in (text or "") and not (kind == "cuda" and number.isdigit())
    ):
        raise ArgumentError(f"--device must be auto, cpu, cuda, or cuda:N for one GPU. Found: {text!r}")
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(
            f"--device {text} needs a GPU of NVIDIA or AMD that torch can use. Found: none, with torch "
            f"{torch.__version__}. Give --device cpu, or install torch for this GPU"
        )
    return _gpu_numbered(int(number)) if number else device_of_rank()


def _gpu_numbered(number: int) -> torch.device:
    if current_shard().world_size > 1:
        raise ArgumentError(
            "--device must be cuda with several processes, each of which takes the GPU of its own number. "
            f"Found: 'cuda:{number}'"
        )
    if number >= (count := torch.cuda.device_count()):
        raise ArgumentError(
            f"--device must be one of cuda:0 to cuda:{count - 1} here. Found: 'cuda:{number}'"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


@contextlib.contextmanager
def process_group(shard: Shard) -> Iterator[None]:
    """Inside the block the processes are connected. An existing group is used and left alone.

    Raises PeerError instead of the errors of gloo and NCCL if another process is gone, and ArgumentError if
    the port of the meeting point is taken.
    """
    if shard.world_size == 1 or dist.is_initialized():
        yield
        return
    _connect()
    try:
        yield
    except BaseException as error:
        _part(error)
        if isinstance(error, RuntimeError) and _is_lost_peer(error):
            raise PeerError(shard.rank) from error
        raise
    dist.destroy_process_group()


# What `together` raised on the rank that failed first.
_failed_together: WeakSet[FastpipeError] = WeakSet()
_LET_GO_S = 0.5


def _part(error: BaseException) -> None:
    """Make gloo's threads let go of the last collective's tensors.

    One that still holds a tensor while the interpreter ends aborts the process: signal 6 in place of the
    status (pytorch/pytorch#190489; 3 of 150 processes on a loaded machine). Destroying the group is the
    cure, but it waits for the other ranks' share of what is under way, so only where all of them leave.
    """
    if _met_by_all(error):
        dist.destroy_process_group()
    else:
        time.sleep(_LET_GO_S)


def _met_by_all(error: BaseException) -> bool:
    """Whether every rank leaves with an error at this point."""
    if isinstance(error, PeerError):
        return error.first is not None
    if isinstance(error, StoppedError | DivergedError):
        return True
    return isinstance(error, FastpipeError) and error in _failed_together


def _connect() -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        text = str(error)
        if "EADDRINUSE" in text or "in use" in text:
            raise ArgumentError(
                f"the processes meet at MASTER_ADDR:MASTER_PORT, {address}, but another program uses it. "
                "Choose another port (torchrun --master-port), or let --nproc find a free one"
            ) from error
        raise ArgumentError(
            f"the processes cannot meet at {address}: {text.splitlines()[0]}. Start them with torchrun or "
            "with --nproc"
        ) from error


def _is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because of another process. gloo raises bare RuntimeErrors."""
    if isinstance(error, FastpipeError):
        return False
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def maxima(values: Sequence[int]) -> list[int]:
    """The largest of each value over all ranks."""
    if _alone():
        return list(values)
    numbers = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return [int(number) for number in numbers]


def summed(counts: Tensor) -> Tensor:
    """`counts` (on the CPU) added up over all ranks."""
    if not _alone():
        dist.all_reduce(counts)
    return counts


def joined_rows(rows: Tensor) -> Tensor:
    """The rows of all ranks in rank order, on the CPU; a rank may have another number of rows, or none."""
    if _alone():
        return rows
    counts = gathered(len(rows))
    padded = torch.zeros(max(counts), *rows.shape[1:], dtype=rows.dtype)
    padded[: len(rows)] = rows
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])


def averaged(values: Tensor) -> Tensor:
    """The mean over all ranks; NaN if any rank has NaN."""
    if _alone():
        return values
    dist.all_reduce(values)
    return values / dist.get_world_size()


def gathered(value: T) -> list[T]:
    """The values of all ranks, in rank order. Values are small and plain."""
    if _alone():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_first(make: Callable[[], T]) -> T:
    """Rank 0's result of `make()`, on every rank; only rank 0 calls it."""
    if _alone():
        return make()
    box = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


def broadcast_state(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Rank 0's state of plain values and tensors, on every rank; the others need no access to its disk."""
    if _alone():
        return state
    file = io.BytesIO()
    if dist.get_rank() == 0 and state is not None:
        torch.save(state, file)
    size = maxima([file.getbuffer().nbytes])[0]
    if size == 0:
        return None
    carried = (
        torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        if state
        else torch.empty(size, dtype=torch.uint8)
    )
    dist.broadcast(carried, src=0)
    if dist.get_rank() == 0:
        return state
    loaded: dict[str, Any] = torch.load(io.BytesIO(carried.numpy().tobytes()), weights_only=True)
    return loaded


@torch.no_grad()
def tensors_of_first(tensors: Sequence[Tensor]) -> None:
    """Give every rank rank 0's values, in place."""
    if not _alone():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def together(work: Callable[[], T]) -> T:
    """`work()` of this rank, after it has succeeded on all ranks. `work` uses no collectives.

    If it raises a FastpipeError, the first such rank raises it and all others raise PeerError, so the
    message is printed once.
    """
    results: list[T] = []
    failed = None
    try:
        results.append(work())
    except FastpipeError as error:
        if _alone():
            raise
        failed = error
    failures = gathered(failed is not None)
    if not any(failures):
        return results[0]
    first = failures.index(True)
    if failed is not None and dist.get_rank() == first:
        _failed_together.add(failed)
        raise failed
    raise PeerError(dist.get_rank(), first=first)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """The block runs in one process of this machine at a time: the first does the work for all.

    This is a lock, not a collective, since indexing a large folder may take longer than a collective waits.
    If the cache cannot be written there is no lock, and every process does the same work.
    """
    with contextlib.ExitStack() as stack:
        if local_world_size() > 1:
            with contextlib.suppress(FastpipeError, OSError):
                make_dir(user_cache_dir())
                stack.enter_context(file_lock(user_cache_dir() / "prepare.lock"))
        yield


def wrapped(model: nn.Module, device: torch.device) -> nn.Module:
    """The model whose gradients are averaged over all ranks; the model itself if there is one rank.

    Each rank has its own buffers: training does not read BatchNorm's statistics, and evaluation and saving
    use those of rank 0. Gradients are averaged in place, which saves a copy of all of them.
    """
    if _alone():
        return model
    ids = [device.index] if device.type == "cuda" else None
    ddp = nn.parallel.DistributedDataParallel
    new = "forward_sync_buffers" in inspect.signature(ddp).parameters  # torch 2.14 warns of the old name
    no_buffers: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return ddp(model, device_ids=ids, gradient_as_bucket_view=True, **no_buffers)


def unsynchronised(network: nn.Module) -> AbstractContextManager[None]:
    """Backward passes in the block keep this rank's own gradients."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return contextlib.nullcontext()
