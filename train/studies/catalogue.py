"""The experiments by name."""

from __future__ import annotations

from fastpipe.errors import ArgumentError, nearest
from fastpipe.train.studies import figure1, table2, table3, table4, table5, table6, table7, table8
from fastpipe.train.studies.design import Experiment

_MODULES = (table2, table3, table4, table5, table6, table7, table8, figure1)
EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}


def experiment(name: str) -> Experiment:
    """The experiment of that name; ArgumentError names the known ones."""
    if name not in EXPERIMENTS:
        raise ArgumentError(
            f"study must be one of {', '.join(EXPERIMENTS)}. Found: {name!r}."
            f"{nearest(name, list(EXPERIMENTS))}"
        )
    return EXPERIMENTS[name]
