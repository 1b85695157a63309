"""Table 6: aggressive MixUp (alpha 1.0) costs Hot accuracy."""

from __future__ import annotations

from fastpipe.train.studies.design import Arm, Comparison, Experiment

_EPOCHS = {450: 24, 810: 36}
_ALPHAS: dict[str, dict[str, str]] = {"0.25": {}, "1.0": {"mixup_alpha": "1.0"}}

EXPERIMENT = Experiment(
    name="table6",
    title="MixUp's alpha",
    citation="Table 6",
    arms=[
        Arm(
            name=f"alpha-{alpha}-{epochs}",
            recipe="hot",
            epochs=epochs,
            small=small,
            options=options,
            row=f"MosaicML Hot, MixUp alpha {alpha}",
        )
        for epochs, small in _EPOCHS.items()
        for alpha, options in _ALPHAS.items()
    ],
    comparisons=[
        Comparison(first=f"alpha-0.25-{epochs}", second=f"alpha-1.0-{epochs}", metrics=("top1", "minutes"))
        for epochs in _EPOCHS
    ],
    limits="The question is asked of trainings long enough to overfit; those of this scale are short. The "
    "published times differ in both directions, and alpha changes no arithmetic.",
)
