"""The record of a run's cost in money and energy, and of the extrapolated time to train of a longer one.

The reference text ran timm's and PyTorch's recipes for 10 epochs and extrapolated to the published length,
without giving its formula. This formula is our own: the first epoch counts with the second's time, as in
`time_to_train`, and all epochs take the mean. Epochs must be alike, so progressive resizing is excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastpipe.efficiency.durations import extrapolated_time_to_train, time_to_train
from fastpipe.train.config.options import Options

_FORMULA = "ours, not the reference text's: (t2 + t2 + t3 + ... + tN) / N * E"


def cost_record(wall_s: float, options: Options) -> dict[str, float]:
    """`cost` of `wall_s` seconds in the price's currency, and `energy_kwh`; each only on request."""
    record: dict[str, float] = {}
    if options.price_per_hour is not None:
        record["cost"] = round(options.price_per_hour * wall_s / 3600, 6)
    if options.watts is not None:
        record["energy_kwh"] = round(options.watts * wall_s / 3.6e6, 6)
    return record


def extrapolation_record(epoch_seconds: Sequence[float], epochs: int) -> dict[str, Any]:
    """Both figures under distinct names: the measured one, and the one extrapolated to `epochs`."""
    return {
        "extrapolation": {
            "formula": _FORMULA,
            "measured_epochs": len(epoch_seconds),
            "measured_time_to_train_s": round(time_to_train(epoch_seconds), 3),
            "extrapolated_epochs": epochs,
            "extrapolated_time_to_train_s": round(extrapolated_time_to_train(epoch_seconds, epochs), 3),
        }
    }
