"""Figure 1: accuracy against time of the recipes, each over a range of lengths.

The figure's own points are not printed anywhere; the text prints some of them in prose and tables, and the
lengths here are those, and the ends of each recipe's range in Table 1. timm's and PyTorch's recipes are timed
for 10 epochs and extrapolated, as in the text, which takes their accuracy from elsewhere.
"""

from __future__ import annotations

from fastpipe.train.studies.design import Arm, Experiment

_SWEPT: dict[str, dict[int, int | None]] = {
    "nvidia_hparams": {36: 8, 90: 16, 135: 24},
    "mild": {18: 8, 36: 16, 60: 24},
    "medium": {60: 8, 135: 16, 240: 24},
    "hot": {240: 8, 450: 16, 810: 24},
    "ffcv": {16: None, 32: None, 88: None},
}
_EXTRAPOLATED = {"timm_a1": 600, "timm_a2": 300, "timm_a3": 100, "pytorch_blog": 600}

EXPERIMENT = Experiment(
    name="figure1",
    title="Accuracy against time",
    citation="Figure 1",
    seeds=5,
    arms=[
        *(
            Arm(name=f"{recipe}-{epochs}", recipe=recipe, epochs=epochs, small=small)
            for recipe, lengths in _SWEPT.items()
            for epochs, small in lengths.items()
        ),
        *(
            Arm(
                name=f"{recipe}-{epochs}",
                recipe=recipe,
                epochs=epochs,
                small=None,
                options={"extrapolate_from": "10"},
            )
            for recipe, epochs in _EXTRAPOLATED.items()
        ),
    ],
    comparisons=[],
    baseline="nvidia_hparams",
    limits="Minutes on CPUs say nothing about a GPU's, and the ranges in which a recipe is the best one are "
    "hundreds of epochs of a large data set.",
)
