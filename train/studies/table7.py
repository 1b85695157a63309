"""Table 7: SAM in every fifth step costs time, and pays only in long trainings."""

from __future__ import annotations

from fastpipe.train.studies.design import Arm, Comparison, Experiment

_EPOCHS = {180: 12, 450: 24}
_INTERVALS = (5, 10)

EXPERIMENT = Experiment(
    name="table7",
    title="SAM's interval",
    citation="Table 7",
    arms=[
        Arm(
            name=f"every-{interval}-{epochs}",
            recipe="hot",
            epochs=epochs,
            small=small,
            options={"sam.interval": str(interval)},
            row=f"MosaicML Hot, SAM interval {interval}",
        )
        for epochs, small in _EPOCHS.items()
        for interval in _INTERVALS
    ],
    comparisons=[
        Comparison(first=f"every-5-{epochs}", second=f"every-10-{epochs}", metrics=("top1", "minutes"))
        for epochs in _EPOCHS
    ],
    limits="The published gain at 450 epochs is 0.09 points, far below the spread of a few hundred test "
    "photos.",
)
