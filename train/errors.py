"""The errors of training: a diverged run, a stopped run and a lost process."""

from __future__ import annotations

import signal

from fastpipe.errors import FastpipeError

__all__ = ["DivergedError"]


class DivergedError(FastpipeError, RuntimeError):
    """The loss became NaN or infinite. Carries the step, counted from 0."""

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.message = message
        self.step = step

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the step when the error crosses a process border."""
        return _rebuild_diverged, (self.message, self.step)


def _rebuild_diverged(message: str, step: int) -> DivergedError:
    return DivergedError(message, step=step)


class StoppedError(FastpipeError, RuntimeError):
    """A signal asked the run to stop, and all ranks stopped at the same step. Carries the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the number, not from the message."""
        return StoppedError, (self.number,)


class PeerError(FastpipeError, RuntimeError):
    """Another process of this run failed; that process reports the reason."""

    def __init__(self, rank: int, *, first: int | None = None) -> None:
        other = "another process" if first is None else f"rank {first}"
        super().__init__(f"rank {rank} stops because {other} failed first; see the error of that process")
        self.rank, self.first = rank, first

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the ranks, not from the message."""
        return _rebuild_peer, (self.rank, self.first)


def _rebuild_peer(rank: int, first: int | None) -> PeerError:
    return PeerError(rank, first=first)
