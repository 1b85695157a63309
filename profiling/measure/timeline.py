"""A few batches of loader and model, span by span: when each process worked, and for what it waited.

The pipeline is put together as `fastpipe.DataLoader` does for the torchvision backend: worker processes that
decode, a thread that runs the device stage one batch ahead, and the training loop. Times are
`time.perf_counter_ns`, which on Linux is one clock for all processes.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.data

from fastpipe.batch import Ahead, Drawer, FolderWork, RequestStream, WorkerOptions, WorkerPool
from fastpipe.device import DeviceStage
from fastpipe.device.place import resolve_device
from fastpipe.profiling.measure.differential import Paced
from fastpipe.profiling.measure.inputs import Cycle, Inputs, fetch
from fastpipe.profiling.measure.model import ModelStep
from fastpipe.profiling.measure.workload import Workload, transform_of
from fastpipe.transforms import merge
from fastpipe.types import HostBatch, Plan, Request

_MOST_BATCHES = 4096
_STEPS, _FEWEST = 12, 3
_SECONDS = 6.0

Step = Callable[[torch.Tensor, torch.Tensor], None]


def capture(workload: Workload, batch_size: int) -> dict[str, Any]:
    """Fetch files and build the model again, and `record` twelve steps (three, if they take long)."""
    _, plan = transform_of(workload.resolution)
    plan = merge(plan, workload.augment) if workload.augment else plan
    device = resolve_device(None)
    inputs = fetch(workload.data, plan, seconds=0.2, quick=True)
    step = _step(workload, inputs, device)
    memory_format = torch.channels_last if workload.channels_last else torch.contiguous_format
    stage = DeviceStage(plan, device=device, memory_format=memory_format, num_classes=inputs.num_classes)
    stage.warm_up()
    return record(
        inputs,
        plan,
        stage,
        step,
        batch_size=batch_size,
        workers=workload.workers,
        steps=_STEPS,
        seconds=_SECONDS,
    )


def _step(workload: Workload, inputs: Inputs, device: torch.device) -> Step:
    """The model, warm, or a consumer at the requested rate."""
    if workload.target is not None:
        return Paced(workload.target[0])
    step = ModelStep(workload, len(inputs.index.classes), device)
    step(*step.synthetic(2))
    return step


def record(
    inputs: Inputs,
    plan: Plan,
    stage: DeviceStage,
    step: Step,
    *,
    batch_size: int,
    workers: int,
    steps: int,
    seconds: float,
) -> dict[str, Any]:
    """The timeline as plain values: rows, and spans with row, name, kind, batch, start and end in seconds.

    It shows `steps` steps, or as many as `seconds` allow but at least three, after a warm-up in which the
    workers fill their queues. Time 0 is the start of the first one; a span that began earlier starts below 0.
    """
    table: Any = torch.zeros((_MOST_BATCHES, 4), dtype=torch.int64)
    table.share_memory_()
    work = _TimedWork(FolderWork(inputs.dataset(), plan, reseed=False), table)
    on_gpu = torch.cuda.is_available()
    pool = WorkerPool(work, WorkerOptions(num_workers=workers, pin_memory=on_gpu))
    spans = _Spans()
    batches = _batches(pool, inputs, batch_size, spans.around_stage(stage), workers)
    try:
        start_ns = spans.run_steps(
            batches, stage.hand_over, step, warm_up=1 + workers, steps=steps, seconds=seconds
        )
    finally:
        if isinstance(batches, Ahead):
            batches.close()
        pool.close()
    made = _made(table, workers)
    return _timeline(spans.found + made, start_ns, batch_size=batch_size, workers=workers, device=on_gpu)


class _TimedWork(torch.utils.data.Dataset[Any]):
    """Notes in shared memory when each batch was made, and by which worker (-1: the training loop itself)."""

    def __init__(self, work: FolderWork, table: torch.Tensor) -> None:
        self.dataset = work.dataset
        self._work, self._table = work, table

    def __getitem__(self, request: Request) -> Any:
        start_ns = time.perf_counter_ns()
        result = self._work[request]
        info = torch.utils.data.get_worker_info()
        worker = -1 if info is None else info.id
        if request.batch < len(self._table):
            done = (start_ns, time.perf_counter_ns(), worker, 1)
            self._table[request.batch] = torch.tensor(done, dtype=torch.int64)
        return result


def _batches(
    pool: WorkerPool, inputs: Inputs, batch_size: int, prepare: Callable[[HostBatch], Any], workers: int
) -> Iterator[Any]:
    ids = iter(Cycle(inputs.ids, batch_size * _MOST_BATCHES))
    requests = iter(lambda: list(itertools.islice(ids, batch_size)), [])
    stream = RequestStream(Drawer(requests, seed=0, epoch=0, resolution=lambda epoch, batch: None))
    prepared = map(prepare, pool.start(stream))
    return Ahead(prepared, depth=1) if workers else prepared


class _Spans:
    """What the training loop and the loader's thread did: (row key, name, kind, batch, start, end)."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str, int, int, int]] = []

    def around_stage(self, stage: Callable[[HostBatch], Any]) -> Callable[[HostBatch], Any]:
        """The device stage, noted; on CUDA this waits for its event, so that the end is the real end."""

        def prepare(host: HostBatch) -> Any:
            start_ns = time.perf_counter_ns()
            batch = stage(host)
            if batch.ready is not None:
                batch.ready.synchronize()
            row = "loop" if threading.current_thread() is threading.main_thread() else "thread"
            self.add(row, "device stage", "transfer", host.request.batch, start_ns)
            return batch

        return prepare

    def add(self, row: str, name: str, kind: str, batch: int, start_ns: int) -> None:
        """Note a span that ends now."""
        self.found.append((row, name, kind, batch, start_ns, time.perf_counter_ns()))

    def run_steps(
        self,
        batches: Iterator[Any],
        hand_over: Callable[[Any], Any],
        step: Step,
        *,
        warm_up: int,
        steps: int,
        seconds: float,
    ) -> int:
        """Train for warm-up and steps; returns when the first step after the warm-up began, ns."""
        begin_s = time.perf_counter()
        first_ns, drawn = 0, 0
        for number in range(warm_up + steps):
            spent_s = time.perf_counter() - begin_s
            if drawn >= _FEWEST and spent_s > seconds:
                break
            start_ns = time.perf_counter_ns()
            # A slow model ends the warm-up early: its workers had enough time to fill the queues.
            if not drawn and (number == warm_up or spent_s > seconds / 4):
                first_ns = start_ns
            drawn += first_ns > 0
            batch = hand_over(next(batches))
            self.add("loop", "wait for data", "wait", number, start_ns)
            compute_ns = time.perf_counter_ns()
            step(batch.images, batch.labels)
            self.add("loop", "model step", "compute", number, compute_ns)
            self.add("loop", f"step {number}", "step", number, start_ns)
        return first_ns


def _made(table: torch.Tensor, workers: int) -> list[tuple[str, str, str, int, int, int]]:
    found = []
    for batch, (start_ns, end_ns, worker, done) in enumerate(table.tolist()):
        if done:
            row = f"worker {worker}" if worker >= 0 else "loop"
            found.append((row, "read, decode, crop", "load", batch, start_ns, end_ns))
    return found


def _timeline(
    found: list[tuple[str, str, str, int, int, int]],
    start_ns: int,
    *,
    batch_size: int,
    workers: int,
    device: bool,
) -> dict[str, Any]:
    names = [f"worker {number}" for number in range(workers)]
    names += ["thread"] if workers else []
    names.append("loop")
    titles = {"thread": "loader thread", "loop": "training loop"}
    end_ns = max(end for row, _, _, _, _, end in found if row == "loop")
    spans = [
        {
            "row": names.index(row),
            "name": name,
            "kind": kind,
            "batch": batch,
            "start_s": (begin - start_ns) / 1e9,
            "end_s": (min(end, end_ns) - start_ns) / 1e9,
        }
        for row, name, kind, batch, begin, end in sorted(found, key=lambda span: (span[4], -span[5]))
        if end > start_ns and begin < end_ns and not (row == "loop" and begin < start_ns)
    ]
    return {
        "batch_size": batch_size,
        "workers": workers,
        "seconds": (end_ns - start_ns) / 1e9,
        "backend": "torchvision",
        "device": "cuda" if device else "cpu",
        "rows": [titles.get(name, name) for name in names],
        "spans": spans,
    }
