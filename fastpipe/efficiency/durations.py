"""Time to train by two rules, and the time of a longer run predicted from a few epochs.

The reference text's rule leaves out validation and checkpoints, and counts the first epoch with the
second's time, since that epoch alone pays for reading the data into memory. MLPerf's rule is the time from
run_start to run_stop, first epoch and evaluations included; a system's score leaves out its fastest and
slowest run (mlcommons/training_policies, training_rules.adoc). By the second rule MosaicML's Mild takes 23.8
minutes, the figure that the reference text prints; by the text's own rule the same five logs give 21.0.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastpipe.errors import ArgumentError

__all__ = [
    "extrapolated_time_to_train",
    "extrapolation_error",
    "mlperf_time",
    "time_to_train",
]

_FEWEST_FOR_A_SCORE = 3


def time_to_train(epoch_seconds: Sequence[float]) -> float:
    """Seconds of training by the reference text's rule; `epoch_seconds` are without validation."""
    if len(epoch_seconds) < 2:
        return sum(epoch_seconds)
    return epoch_seconds[1] + sum(epoch_seconds[1:])


def mlperf_time(
    epoch_seconds: Sequence[float],
    validation_seconds: Sequence[float],
    qualities: Sequence[float] | None = None,
    target: float | None = None,
) -> float | None:
    """Seconds of training and validation, up to the first epoch whose quality reaches `target`.

    Without a target: of the whole run. None if the target is not reached. The three sequences have one entry
    for each epoch. Raises ArgumentError for different lengths, or a target without qualities.
    """
    if len(validation_seconds) != len(epoch_seconds):
        raise ArgumentError(
            f"validation_seconds must hold {len(epoch_seconds)} numbers, one for each epoch. "
            f"Found: {len(validation_seconds)}"
        )
    last = len(epoch_seconds)
    if target is not None:
        if qualities is None or len(qualities) != len(epoch_seconds):
            found = "None" if qualities is None else len(qualities)
            raise ArgumentError(
                f"qualities must hold {len(epoch_seconds)} numbers, one for each epoch, with a target. "
                f"Found: {found}"
            )
        reached = [epoch for epoch, quality in enumerate(qualities, 1) if quality >= target]
        if not reached:
            return None
        last = reached[0]
    return sum(epoch_seconds[:last]) + sum(validation_seconds[:last])


def mlperf_score(run_times: Sequence[float]) -> float:
    """The mean without the fastest and the slowest run; raises ArgumentError for fewer than three runs."""
    if len(run_times) < _FEWEST_FOR_A_SCORE:
        raise ArgumentError(
            f"run_times must hold at least {_FEWEST_FOR_A_SCORE} runs: the fastest and the slowest are left "
            f"out. Found: {len(run_times)}"
        )
    middle = sorted(run_times)[1:-1]
    return sum(middle) / len(middle)


def extrapolated_time_to_train(epoch_seconds: Sequence[float], epochs: int) -> float:
    """Seconds of `epochs` epochs: (t2 + t2 + ... + tN) / N * epochs, from the N measured ones, t1 first.

    Raises ArgumentError for fewer than two measured epochs, or more than `epochs`.
    """
    measured = len(epoch_seconds)
    if not 2 <= measured <= epochs:
        raise ArgumentError(
            f"epoch_seconds must hold 2 to {epochs} epochs to extrapolate to {epochs}. Found: {measured}"
        )
    return time_to_train(epoch_seconds) / measured * epochs


def extrapolation_error(epoch_seconds: Sequence[float], measured: int = 10) -> float:
    """The relative error of the extrapolation, had a complete run stopped after `measured` epochs.

    0.1: predicted 10 % too long. Raises ArgumentError unless 2 <= measured <= the number of epochs.
    """
    if not 2 <= measured <= len(epoch_seconds):
        raise ArgumentError(
            f"measured must be in 2..{len(epoch_seconds)}, the epochs of the run. Found: {measured}"
        )
    predicted = extrapolated_time_to_train(epoch_seconds[:measured], len(epoch_seconds))
    return predicted / time_to_train(epoch_seconds) - 1.0
