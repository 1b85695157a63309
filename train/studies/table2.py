"""Table 2: RandAugment of depth 0, 1 and 2 takes throughput, because it takes CPU time."""

from __future__ import annotations

from fastpipe.train.studies.design import Arm, Comparison, Experiment, Loading

_BASE, _MORE = "NVIDIA Hparams + Channels Last", "NVIDIA Hparams + Channels Last + RandAugment"
_EPOCHS = 3  # the first one warms caches; the text gives no length
_POLICY = {"randaugment.space": "composer", "randaugment.severity": "10"}


def _arm(depth: int) -> Arm:
    policy = {**_POLICY, "randaugment.depth": str(depth)} if depth else {}
    return Arm(
        name=f"depth-{depth}",
        recipe="nvidia_hparams",
        epochs=_EPOCHS,
        small=1,
        options={"channels_last": "true", **policy},
        row=_MORE if depth else _BASE,
        loading=Loading(size=224, depth=depth),
    )


EXPERIMENT = Experiment(
    name="table2",
    title="RandAugment takes throughput",
    citation="Table 2",
    arms=[_arm(depth) for depth in (0, 1, 2)],
    comparisons=[
        Comparison(first="depth-1", second="depth-0", metrics=("images_per_s",)),
        Comparison(first="depth-2", second="depth-1", metrics=("images_per_s",)),
    ],
    rates=("depth-0", "depth-1"),
    limits="The rates are predicted from CPU time measured here, not timed on GPUs. The operation timed is "
    "torchvision's RandAugment, whose 14 operations include the identity; Composer's 13 do not.",
)
