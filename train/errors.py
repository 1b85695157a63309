"""What training adds to the error tree: a diverged run, and a method that changed nothing."""

from __future__ import annotations

from fastpipe.errors import FastpipeError

__all__ = ["DivergedError", "NoEffectWarning"]


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


class NoEffectWarning(UserWarning):
    """A method of the recipe found nothing to act on."""
