"""Handles samples that cannot be decoded: one policy for every backend.

A backend makes one `Mender` for its source, and one `Mending` for each batch, wherever the batch is made:
in a worker process, a thread, or the script's own process. Order and length never change: a listed or broken
sample is skipped or replaced in its own place, with the draws of that place.

    mending = mender.batch(request)
    for place in range(len(request.ids)):
        mending.fill(place, put)               # put(place, sample_id) decodes or raises SampleError
    kept, request, incidents = mending.finish()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from fastpipe.batch.locate import labels_of, locate
from fastpipe.errors import SampleError
from fastpipe.rng import Stream, uniforms
from fastpipe.types import Incident, IntArray, Request

__all__ = ["Mender", "OnError", "Policy", "Put", "first_that_decodes"]

OnError = Literal["raise", "skip", "replace"]
Put = Callable[[int, int], None]
T = TypeVar("T")

_SUBSTITUTES = 10  # draws of a replacement before the class counts as unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What to do with a broken sample. listed: keys of samples that are known to be broken."""

    on_error: OnError = "raise"
    listed: frozenset[str] = frozenset()


class Mender:
    """The policy over one data set. Picklable; may be shared by threads."""

    def __init__(self, dataset: Any, policy: Policy) -> None:
        self.dataset = dataset
        self.policy = policy
        self._labels: npt.NDArray[Any] | None = None

    def batch(self, request: Request) -> Mending:
        """The state for one batch; used by one thread at a time."""
        return Mending(self, request)

    def key(self, sample_id: int) -> str:
        """The permanent name of the sample."""
        leaf, index = locate(self.dataset, sample_id)
        return leaf.key(index)

    def is_listed(self, sample_id: int) -> bool:
        """Whether the quarantine list holds this sample, which is then not decoded."""
        listed = self.policy.listed
        return bool(listed) and self.key(sample_id) in listed

    def substitutes(self, request: Request, place: int) -> Iterator[int]:
        """Other samples of the same class, by the draws of this place."""
        if self._labels is None:
            self._labels = labels_of(self.dataset)
        sample_id, one = int(request.ids[place]), slice(place, place + 1)
        members = _alike(self._labels, self._labels[sample_id])
        members = members[members != sample_id % len(self._labels)]
        if not len(members):
            return
        key = (request.seed, request.epoch, request.ids[one], request.repeats[one])
        for draw in uniforms(*key, Stream.REPLACE, _SUBSTITUTES)[0]:
            yield int(members[int(draw * len(members))])


def _alike(labels: npt.NDArray[Any], label: Any) -> IntArray:
    """The samples that have this label, which need not be a number."""
    if labels.dtype != object:
        return np.flatnonzero(labels == label)
    return np.flatnonzero([_equal(one, label) for one in labels])


def _equal(one: Any, other: Any) -> bool:
    """Whether two labels are equal, arrays among them by their elements, also inside lists and dicts."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return np.array_equal(one, other)


class Mending:
    """One batch: the places that are filled, and the incidents at the others.

    Decode in any order and in any threads; then call `mend` for the places that failed, from one thread.
    """

    def __init__(self, mender: Mender, request: Request) -> None:
        self._mender = mender
        self._request = request
        self._dropped: set[int] = set()
        self._incidents: dict[int, Incident] = {}

    def listed(self, place: int) -> SampleError | None:
        """The error of a quarantined sample, for `mend`; None for one to be decoded."""
        sample_id = int(self._request.ids[place])
        if self._mender.policy.on_error == "raise" or not self._mender.is_listed(sample_id):
            return None
        key = self._mender.key(sample_id)
        return _ListedError(f"{key!r} is in the quarantine list", path=key, sample_id=sample_id)

    def fill(self, place: int, put: Put) -> None:
        """Put the sample of this place, or what the policy puts instead. Raises SampleError."""
        error = self.listed(place)
        if error is None:
            try:
                put(place, int(self._request.ids[place]))
                return
            except SampleError as caught:
                error = caught
        self.mend(place, error, put)

    def mend(self, place: int, error: SampleError, put: Put) -> None:
        """Apply the policy to a place that failed with `error`; `put` decodes a substitute into it."""
        if self._mender.policy.on_error == "raise":
            raise error
        substitute = None
        if self._mender.policy.on_error == "replace":
            substitute = self._replace(place, error, put)
        else:
            self._dropped.add(place)
        self._note(place, error, "skipped" if substitute is None else "replaced", substitute)

    def rescued(self, place: int, error: SampleError) -> None:
        """Record that one decoder failed with `error` and another one of the chain read the sample."""
        self._note(place, error, "rescued", None)

    def finish(self) -> tuple[IntArray, Request, tuple[Incident, ...]]:
        """The places kept, int64 in order and perhaps none; the request of those; the incidents by place."""
        request = self._request
        incidents = tuple(self._incidents[place] for place in sorted(self._incidents))
        kept = np.array([p for p in range(len(request.ids)) if p not in self._dropped], dtype=np.int64)
        if len(kept) < len(request.ids):
            request = replace(request, ids=request.ids[kept], repeats=request.repeats[kept])
        return kept, request, incidents

    def _replace(self, place: int, error: SampleError, put: Put) -> int:
        candidates = list(self._mender.substitutes(self._request, place))
        for candidate in candidates:
            if self._mender.is_listed(candidate):
                continue
            try:
                put(place, candidate)
            except SampleError:
                continue
            return candidate
        found = (
            f"No readable replacement of its class was found in {_SUBSTITUTES} draws"
            if candidates
            else "No other sample has its label, so there is no replacement"
        )
        raise SampleError(
            f"{str(error).rstrip('. ')}. {found}.",
            path=error.path,
            sample_id=int(self._request.ids[place]),
        ) from error

    def _note(
        self,
        place: int,
        error: SampleError,
        action: Literal["skipped", "replaced", "rescued"],
        substitute: int | None,
    ) -> None:
        sample_id = int(self._request.ids[place])
        self._incidents[place] = Incident(
            sample_id=sample_id,
            key=self._mender.key(sample_id),
            action=action,
            reason=str(error),
            substitute=substitute,
            lasting=error.lasting,
            listed=isinstance(error, _ListedError),
        )


class _ListedError(SampleError):
    """Represents the error of the run that listed the sample."""


def first_that_decodes(
    attempts: Sequence[tuple[str, Callable[[], T]]],
) -> tuple[T, SampleError | None]:
    """The first result of a chain of decoders (name, function), and the first failure before it or None.

    A function raises SampleError for a file it rejects. If all do, the last one's error is raised, with
    the messages of the others.
    """
    failures: list[tuple[str, SampleError]] = []
    for name, attempt in attempts:
        try:
            result = attempt()
        except SampleError as error:
            failures.append((name, error))
            continue
        return result, failures[0][1] if failures else None
    if not failures:
        raise ValueError("a chain of decoders needs at least one")
    last = failures[-1][1]
    others = "; ".join(f"{name}: {error}" for name, error in failures[:-1])
    if not others:
        raise last
    raise SampleError(f"{last} ({others})", path=last.path, sample_id=last.sample_id) from last
