"""torch's own iterators, which report their position to the loader, whose state outlives them."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

import numpy as np
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import dataloader as torchs

from fastpipe.batch import read_one, read_samples
from fastpipe.batch.forks import garbage_stays_here
from fastpipe.batch.host_draws import Seeded
from fastpipe.loader.epoch import Position, Whereabouts
from fastpipe.loader.stats import Made
from fastpipe.types import IntArray

_log = logging.getLogger("fastpipe")


class _Counted:
    """Records delivered batches in the loader's position.

    A batch that raised is counted with the next delivered batch.
    """

    def __init__(self, loader: TorchLoader[Any], where: Whereabouts) -> None:
        self._where = where
        self._follow(loader)
        super().__init__(loader)  # type: ignore[call-arg]

    def _reset(self, loader: TorchLoader[Any], first_iter: bool = False) -> None:
        self._follow(loader)
        super()._reset(loader, first_iter)  # type: ignore[misc]

    def _follow(self, loader: TorchLoader[Any]) -> None:
        self._place = self._where.position or Position(epoch=0)
        self._read = read_one if loader.batch_sampler is None else read_samples
        self._asked: deque[IntArray] = deque()
        self._asked_for = 0
        self._raised = 0

    def _next_index(self) -> Any:
        index = super()._next_index()  # type: ignore[misc]
        if self._place.trail is None:
            return index
        ids = np.empty(0, dtype=np.int64)
        try:
            ids, index = self._read(index, self._asked_for)
        except Exception as error:  # torch raises it in the batch's turn, while it iterates over the ids
            _log.debug("the sampler gave %r: %s", index, error)
        self._asked.append(ids)
        self._asked_for += len(ids)
        return index

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            data = super().__next__()  # type: ignore[misc]
        except StopIteration:
            self._place.finished = True
            raise
        except Exception:
            self._raised += 1
            raise
        finally:
            self._where.tally.seconds_waited += time.perf_counter() - began
        for delivered in range(self._raised, -1, -1):
            self._place.delivered += 1
            if self._place.trail is not None and self._asked:
                ids = self._asked.popleft()
                self._place.trail.add(ids)
                self._where.tally.add(Made(0 if delivered else len(ids)))
        self._raised = 0
        return data


def _named_alike(base: type[Any]) -> type[Any]:
    """A counting subclass of the same name: profilers look for the name in the label of a step."""
    return type(base.__name__, (_Counted, base, Seeded), {"__module__": __name__})


_SingleProcess = _named_alike(torchs._SingleProcessDataLoaderIter)
_MultiProcessing = _named_alike(torchs._MultiProcessingDataLoaderIter)


def counted_iterator(loader: TorchLoader[Any], where: Whereabouts) -> Any:
    """The iterator of torch's DataLoader._get_iterator, counting in the loader's position at each epoch."""
    if loader.num_workers == 0:
        return _SingleProcess(loader, where)
    loader.check_worker_number_rationality()
    with garbage_stays_here():
        return _MultiProcessing(loader, where)
