"""What an import of `fastpipe.DataLoader` would change, and what the observed loader's rate could be."""

from __future__ import annotations

from dataclasses import dataclass

from fastpipe.loader.explain import Explanation
from fastpipe.loader.own import Proofs
from fastpipe.loader.plan import Wanted, plan_loader
from fastpipe.profiling.observe.loaders import LoaderFacts
from fastpipe.profiling.observe.summary import MAKERS, LoaderSummary, StageSummary

WAITING = 0.05
"""Share of a step from which a script counts as waiting for data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """What `fastpipe.DataLoader` would do with the observed data set; none of it was run.

    in_use: the script uses that loader already, and this is what it does. moved: the classes of the steps
    that would go to the device stage. saved_cpu_ms: the CPU time per image that they took in the workers,
    which is a prediction without the cost of the device stage.
    """

    lifted: bool
    reason: str
    text: str
    moved: tuple[str, ...]
    saved_cpu_ms: float
    saved_ms: float
    in_use: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """waiting: whether the script waits for data. Rates are images/s, predicted from the times measured."""

    waiting: bool
    share: float
    stage: str | None
    images_per_s: float
    if_free_images_per_s: float | None
    if_no_wait_images_per_s: float
    sentences: tuple[str, ...]


def judge(loader: LoaderSummary, lift: Lift | None) -> Verdict:
    """Two to four sentences on one loader; `who` says which."""
    inside = [stage for stage in loader.stages if stage.where in MAKERS]
    worst = max(inside, key=lambda stage: stage.cost_ms, default=None)
    ceiling = _model_rate(loader)
    free = None if worst is None else rate_without(loader, worst.cost_ms)
    waiting = loader.waiting >= WAITING
    sentences = [_first(loader, waiting)]
    if worst is not None and free is not None:
        sentences.append(_worst(loader, worst, free, ceiling))
    sentences += _device(loader)
    if lift is not None:
        sentences.append(_moved(loader, lift))
    return Verdict(
        waiting=waiting,
        share=loader.waiting,
        stage=None if worst is None else worst.name,
        images_per_s=loader.images_per_s,
        if_free_images_per_s=free,
        if_no_wait_images_per_s=ceiling,
        sentences=tuple(sentences),
    )


def _model_rate(loader: LoaderSummary) -> float:
    """Images/s if no batch were ever waited for."""
    busy = loader.step_ms - loader.exposed_ms
    return 1000 * loader.images_per_batch / busy if busy > 0 else float("inf")


def rate_without(loader: LoaderSummary, cost_ms: float) -> float:
    """Images/s if `cost_ms` per image left the workers; never more than the model's rate.

    If the script waits for a loader, that loader works at its limit, so its rate grows as the cost of an
    image shrinks. With num_workers=0 the wait shrinks instead. A loader that nobody waits for gains nothing.
    """
    left = 1 - min(cost_ms / loader.cost_ms, 1.0) if loader.cost_ms else 1.0
    if not loader.facts.num_workers:
        return 1000 * loader.images_per_batch / max(loader.step_ms - loader.wait_ms * (1 - left), 1e-6)
    if loader.waiting < WAITING:
        return loader.images_per_s
    ceiling = _model_rate(loader)
    return min(ceiling, loader.images_per_s / left) if left > 0 else ceiling


def who(loader: LoaderSummary) -> str:
    """The line of the script that made it, and what the script uses it for."""
    role, why = loader.role
    use = f"for {role}" if role != "unknown" else "use unknown"
    return f"{loader.facts.name}, {use} ({why}):"


def _first(loader: LoaderSummary, waiting: bool) -> str:
    at = f"{loader.exposed_ms:.1f} of {loader.step_ms:.1f} ms per step ({100 * loader.waiting:.0f} %)"
    best = _rate(_model_rate(loader))
    if not waiting:
        return f"The script does not wait for data: {at}. The rest of the step limits it to {best}."
    return f"The script waits for data {at}: {_rate(loader.images_per_s)}, and {best} if it never waited."


def _worst(loader: LoaderSummary, worst: StageSummary, free: float, ceiling: float) -> str:
    facts = loader.facts
    inside = "Inside the threads" if facts.threads else "Inside the workers"
    place = inside if facts.num_workers else "In making a batch"
    crew = f"with {facts.makers}" if facts.num_workers else f"in {facts.makers}"
    text = (
        f"{place} {title(worst.name)} costs most, {worst.cost_ms:.2f} of {loader.cost_ms:.2f} ms per image "
        f"({worst.cpu_ms:.2f} CPU-ms)"
    )
    if loader.waiting < WAITING:
        return f"{text}; without this cost the script would be no faster."
    bound = "; then the rest of the step is the limit" if free >= 0.99 * ceiling else ""
    return f"{text}. Predicted without this cost: {_rate(free)} {crew}{bound}."


def _device(loader: LoaderSummary) -> list[str]:
    """Said if the one thread of the device stage takes longer for an image than all makers together."""
    stage = next((stage for stage in loader.stages if stage.where == "device thread"), None)
    crew_ms = loader.cost_ms / max(loader.facts.num_workers, 1)
    if stage is None or stage.cost_ms <= crew_ms or loader.waiting < WAITING:
        return []
    return [
        f"The device stage, in one thread, is slower: {stage.cost_ms:.2f} ms per image, "
        f"compared with {crew_ms:.2f} for {loader.facts.makers}."
    ]


def _in_use(loader: LoaderSummary, lift: Lift) -> str:
    if not lift.lifted:
        return f"fastpipe.DataLoader runs this data set like torch: {lift.reason}."
    moved = f"; {', '.join(lift.moved)} on the device stage" if lift.moved else ""
    return f"fastpipe.DataLoader serves it with its backend {loader.facts.backend}{moved}."


def _moved(loader: LoaderSummary, lift: Lift) -> str:
    if lift.in_use:
        return _in_use(loader, lift)
    if not lift.lifted:
        return f"fastpipe.DataLoader would run this data set like torch: {lift.reason}."
    if not lift.moved:
        return (
            "fastpipe.DataLoader would crop and resize while decoding, and move no transform to the device."
        )
    text = (
        f"With `from fastpipe import DataLoader` {', '.join(lift.moved)} would go to the device stage: "
        f"{lift.saved_cpu_ms:.2f} CPU-ms less per image in the workers, predicted"
    )
    if loader.waiting < WAITING:
        return f"{text}."
    rate = _rate(rate_without(loader, lift.saved_ms))
    return f"{text}; {rate} if the device stage has its own processor."


def title(name: str) -> str:
    """A stage's name for people: transforms by their class."""
    return name.removeprefix("transform:")


def _rate(rate: float) -> str:
    return f"{rate:,.0f} images/s" if rate >= 100 else f"{rate:.3g} images/s"


def describe_lift(loader: LoaderSummary) -> Lift:
    """fastpipe's plan for the observed data set. No image but the first is read; a copy of the
    script's own data set makes a few samples.

    No loader is made: choosing its backend would import DALI and FFCV into the script's process.
    """
    facts = loader.facts
    plan = facts.plan if facts.ours else _planned(facts)
    if plan is None:
        raise ValueError("the loader does not explain itself")
    names = [step.step.split("(")[0] for step in plan.steps if step.where == "device"] if plan.lifted else []
    stages = [stage for stage in loader.stages if title(stage.name) in names]
    return Lift(
        lifted=plan.lifted,
        reason=plan.reason,
        text=str(plan),
        moved=tuple(dict.fromkeys(names)),
        saved_cpu_ms=sum(stage.cpu_ms for stage in stages),
        saved_ms=sum(stage.cost_ms for stage in stages),
        in_use=facts.ours,
    )


def _planned(facts: LoaderFacts) -> Explanation:
    planned = plan_loader(facts.dataset, Wanted(batched=facts.batched, collate_fn=facts.collate_fn), Proofs())
    return Explanation(
        lifted=planned.plan is not None, reason=planned.reason, steps=planned.notes, choice=None, facts=()
    )
