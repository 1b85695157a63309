"""Serves a stream of requests with DALI, in order, and replaces a pipeline that dies."""

from __future__ import annotations

import logging
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from fastpipe.backends.base import Job
from fastpipe.backends.dali.finish import finish_batch
from fastpipe.backends.dali.pipeline import Graph, Inputs, Runner
from fastpipe.backends.dali.samples import Item, Prepared, read_item
from fastpipe.batch import RequestStream
from fastpipe.batch.failure import Failure, Results
from fastpipe.batch.host_draws import draw_base_seed
from fastpipe.batch.mend import Mender
from fastpipe.batch.packing import Packing, decode_step
from fastpipe.batch.pool import next_base_seed
from fastpipe.errors import BackendError, NoEffectWarning, SampleError
from fastpipe.types import HostBatch, Request

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("fastpipe")

_DEPTH = 2  # batches in flight, DALI's own default
_TRIES = 3  # failed runs of one batch before Pillow decodes all of it


class DaliSource:
    """A source of packed uint8 batches. `num_workers` threads decode inside DALI, as many read and resize.

    No worker process is started. With num_workers=0 one DALI thread decodes while the caller waits.
    With `persistent_workers` a pipeline serves one epoch after another.
    """

    def __init__(self, job: Job, graph: Graph) -> None:
        self.job = job
        self.graph = graph
        self.mender = Mender(job.dataset, job.policy)
        self.threads = max(1, job.workers.num_workers)
        self.depth = (job.workers.prefetch_factor or _DEPTH) if job.workers.num_workers else 1
        self.rejected: dict[str, SampleError] = {}
        self._idle: Runner | None = None
        self._base_seed: int | None = None
        for name in ("worker_init_fn", "multiprocessing_context"):
            if getattr(job.workers, name):
                warnings.warn(
                    f"{name} has no effect with backend='dali', which starts threads and no worker processes",
                    NoEffectWarning,
                    stacklevel=2,
                )

    def base_seed(self) -> int:
        """torch's base seed of the next iterator; of the first one if workers are persistent."""
        if self._base_seed is not None:
            return self._base_seed
        return next_base_seed(self.job.workers.generator)

    def start(self, stream: RequestStream, *, again: bool = False) -> Iterator[HostBatch]:
        """An iterator over the batches. Draws a base seed as torch's iterator would, unless `again`."""
        workers = self.job.workers
        if not again and self._base_seed is None:
            draw_base_seed(workers.generator)
            self._base_seed = stream.seed if workers.persistent_workers else None
        session = _Session(self, stream)
        if workers.num_workers:
            session.prepare()  # now, as with torch's workers: the sampler may draw from a global generator
        return Results(session.batches())

    def runner(self, batch_size: int) -> Runner:
        """A pipeline that is ready to start: the one kept, or a new one."""
        idle, self._idle = self._idle, None
        if idle is not None and idle.usable and idle.batch_size >= batch_size:
            return idle
        return Runner(self.graph, batch_size=batch_size, threads=self.threads, depth=self.depth)

    def keep(self, runner: Runner) -> None:
        """Take a pipeline back at the end of an epoch."""
        if self.job.workers.persistent_workers:
            runner.rewind()
            self._idle = runner

    def close(self) -> None:
        """Drop the pipeline that was kept."""
        self._idle = None


class _Session:
    """One pass over a stream.

    waiting: prepared, to be given to a pipeline (again). under_way: given to the pipeline, in its order.
    dry: the pipeline was told that no more comes; it takes that for the end until it is reset.
    """

    def __init__(self, source: DaliSource, stream: RequestStream) -> None:
        self._source = source
        self._stream = stream
        self._waiting: deque[Prepared] = deque()
        self._under_way: deque[Prepared] = deque()
        self._failure: BaseException | None = None
        self._ended = False
        self._dry = False
        self._runner: Runner | None = None
        self._exiting = sys.is_finalizing  # held here: this module's own names may be gone
        self._threads: ThreadPoolExecutor | None = None
        if source.job.workers.num_workers > 1:
            self._threads = ThreadPoolExecutor(source.threads, thread_name_prefix="fastpipe-dali")

    def batches(self) -> Iterator[HostBatch | Failure]:
        """The batches in order. Pipeline and threads are released at the end, or when this is closed."""
        try:
            while self._start_runs():
                prepared = self._under_way[0]
                try:
                    images = self._result()
                except RuntimeError as error:
                    self._recover(prepared, error)
                    continue
                self._under_way.popleft()
                if self._source.job.workers.num_workers:
                    self._submit()  # decode the next ones while this one is finished and consumed
                yield self._finish(prepared, images)
            if self._failure is not None:
                raise self._failure
            if self._runner is not None:
                self._source.keep(self._runner)
        finally:
            self._runner = None
            # A forked process may come here as its modules are torn down; the pool's are gone by then.
            if self._threads is not None and not self._exiting():
                self._threads.shutdown(cancel_futures=True)

    def _start_runs(self) -> bool:
        """Whether a run is in flight, after starting as many as allowed."""
        if not self._under_way:
            if not self._waiting:
                self.prepare()
            if not self._waiting:
                return False
            size = max(1, len(self._waiting[0].request.ids))
            if self._runner is None or not self._runner.usable or self._runner.batch_size < size:
                self._renew(size)
            elif self._dry:
                self._runner.reset()
            self._dry = False
        self._submit()
        return bool(self._under_way)

    def _renew(self, batch_size: int) -> None:
        self._runner = None  # ends the old one's threads before new ones are made
        runner = self._source.runner(batch_size)
        provide = weakref.WeakMethod(self._provide)  # the runner must not keep the session alive
        runner.provide = lambda: _call(provide)
        self._runner = runner

    def _more(self) -> bool:
        """Whether a batch can be given to the pipeline without waiting for the script to ask for it."""
        return bool(self._waiting) or (not self._ended and self._stream.ready())

    def _submit(self) -> None:
        """Start runs until as many are in flight as allowed, or as possible without waiting."""
        runner, under_way = self._runner, len(self._under_way)
        while runner is not None and self._more() and under_way < self._source.depth:
            try:
                runner.submit()
            except RuntimeError as error:
                if not self._under_way:
                    raise
                # The error of a run started earlier: its result raises the same.
                _log.debug("DALI: %s", error)
                return
            if len(self._under_way) == under_way:
                return
            under_way = len(self._under_way)

    def _result(self) -> Any:
        if self._runner is None:
            raise RuntimeError("no pipeline")
        return self._runner.result()

    def _provide(self) -> Inputs:
        """The next batch's inputs, for DALI; StopIteration at the end of what this pipeline can run."""
        if not self._waiting and self._more():
            self.prepare()
        if not self._waiting or self._runner is None:
            self._dry = True
            raise StopIteration
        if len(self._waiting[0].request.ids) > self._runner.batch_size:
            raise StopIteration  # drain first, then make a larger pipeline
        prepared = self._waiting.popleft()
        self._under_way.append(prepared)
        return prepared.inputs(self._source.graph)

    def prepare(self) -> None:
        """Take one request from the stream and read its files. An error waits until its turn has come."""
        if self._ended:
            return
        try:
            self._waiting.append(self._prepared(next(self._stream)))
        except StopIteration:
            self._ended = True
        except Exception as error:
            self._ended, self._failure = True, error

    def _prepared(self, request: Request) -> Prepared:
        source = self._source
        plan = source.job.plan
        spec, draws = decode_step(plan, request)
        packing = Packing(request, source.mender)
        ids = request.ids.tolist()
        listed = [packing.mending.listed(place) is not None for place in range(len(ids))]
        return Prepared(
            request=request,
            spec=spec,
            draws=draws,
            packing=packing,
            items=self._each(
                self._read, [None if out else one for one, out in zip(ids, listed, strict=True)]
            ),
        )

    def _read(self, sample_id: int | None) -> Item | None:
        if sample_id is None:
            return None
        return read_item(self._source.job.dataset, sample_id, self._source.rejected)

    def _each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`function` of every item, in order, on the available threads: a slice of the items for each."""
        if self._threads is None or len(items) < 2:
            return [function(item) for item in items]
        num = self._source.threads
        slices = [items[part * len(items) // num : (part + 1) * len(items) // num] for part in range(num)]
        done = self._threads.map(lambda part: [function(item) for item in part], slices)
        return [result for part in done for result in part]

    def _finish(self, prepared: Prepared, images: Any) -> HostBatch | Failure:
        source = self._source
        try:
            batch = finish_batch(
                prepared, images, source.graph, source.job.dataset, self._each, source.job.device
            )
        except Exception as error:
            return Failure(error)
        if source.job.workers.pin_memory and torch.cuda.is_available():
            return batch.pin_memory()
        return batch

    def _recover(self, prepared: Prepared, error: RuntimeError) -> None:
        """Replace a pipeline that a file has killed; everything in flight runs again, in order."""
        self._runner = None
        self._waiting.extendleft(reversed(self._under_way))
        self._under_way.clear()
        prepared.tries += 1
        if prepared.tries > 2 * _TRIES:  # the files are not at fault: Pillow has them all by now
            raise BackendError(
                f"DALI failed {prepared.tries} times on one batch: {_reason(error)}"
            ) from error
        rejected = self._rejected_places(prepared)
        if prepared.tries >= _TRIES and not rejected:
            rejected = list(prepared.places)
        for place in rejected:
            item = prepared.items[place]
            if item is not None:
                item.size = None
                item.error = SampleError(
                    f"DALI cannot decode the image {item.path!r}: {_reason(error)}",
                    path=item.path,
                    sample_id=int(prepared.request.ids[place]),
                )
                self._source.rejected[item.leaf.key(item.index)] = item.error

    def _rejected_places(self, prepared: Prepared) -> list[int]:
        """The places of a failed batch whose files DALI rejects, each run alone."""
        found = []
        runner: Runner | None = None
        data, *rest = prepared.inputs(self._source.graph)
        for row, place in enumerate(prepared.places):
            runner = runner or Runner(self._source.graph, batch_size=1, threads=1, depth=1)
            one = ([data[row]], *(column[row : row + 1] for column in rest))
            runner.provide = iter([one]).__next__
            try:
                runner.submit()
                runner.result()
            except RuntimeError:
                found.append(place)
                runner = None
        return found


def _call(method: weakref.WeakMethod[Callable[[], Inputs]]) -> Inputs:
    bound = method()
    if bound is None:
        raise StopIteration
    return bound()


def _reason(error: RuntimeError) -> str:
    """The line of DALI's long message that says what failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "decode" in line.lower() and "operator" not in line]
    return (telling or lines or ["no reason given"])[0][:200]
