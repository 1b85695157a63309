"""Figure 1's own questions: which arm lies on the frontier, and how much time it saves at its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastpipe.efficiency.frontier import frontier_shares
from fastpipe.efficiency.resampling import Group
from fastpipe.efficiency.savings import Compared, time_saved
from fastpipe.train.studies.design import Experiment
from fastpipe.train.studies.results import Finished, values_of


@dataclass(frozen=True, kw_only=True)
class OnFrontier:
    """share: of the resamples of the seeds, those with the arm on the frontier. saved: over the baseline."""

    arm: str
    share: float
    saved: Compared | None


def frontier_of(experiment: Experiment, runs: Sequence[Finished]) -> list[OnFrontier]:
    """The arms that have minutes and accuracy, in their order; none for an experiment without a baseline."""
    if experiment.baseline is None:
        return []
    groups = {arm.name: _group(runs, arm.name) for arm in experiment.arms}
    there = {name: group for name, group in groups.items() if group.costs}
    if not there:
        return []
    recipes = {arm.name: arm.recipe for arm in experiment.arms}
    baseline = [group for name, group in there.items() if recipes[name] == experiment.baseline]
    shares = frontier_shares(list(there.values()))
    return [
        OnFrontier(
            arm=name,
            share=share,
            saved=time_saved(baseline, [group])
            if baseline and recipes[name] != experiment.baseline
            else None,
        )
        for (name, group), share in zip(there.items(), shares, strict=True)
    ]


def _group(runs: Sequence[Finished], arm: str) -> Group:
    minutes, top1 = values_of(runs, arm, "minutes"), values_of(runs, arm, "top1")
    both = [seed for seed in minutes if seed in top1]
    return Group(costs=[minutes[seed] for seed in both], qualities=[top1[seed] for seed in both])
