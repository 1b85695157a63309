"""The verdict in words: two sentences, and the details below them. Pure functions of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.verdict import Forecast, Measured, StageCost, Verdict
from fastpipe.profiling.names import Id, words

# Below this ratio between the bottleneck and the next limit, noise decides which of them is slower.
_BALANCED = 1.1


def in_words(
    verdict: Verdict,
    stages: Sequence[StageCost],
    measured: Measured,
    *,
    cpus: float,
    workers: int,
    gpu: bool,
    best: Fix | None = None,
    freed: float | None = None,
) -> Verdict:
    """The verdict with its sentences and details.

    best: the fix with the largest gain. freed: CPUs that RandAugment on the device saves the workers at the
    model's rate; None if the recipe has no RandAugment. The other arguments are those of `judge`.
    """
    by_model = verdict.bottleneck == next(stage.id for stage in stages if stage.lane == "model")
    if by_model:
        first = _model_words(verdict, measured, workers)
    else:
        first = _loader_words(verdict, measured, cpus, workers, gpu)
    second = _outlook(verdict, best, None if by_model or not gpu else freed)
    details = [
        "" if by_model else _waiting_words(verdict, measured, cpus, workers),
        _scaling_words(verdict, stages, cpus),
        *_check_words(verdict, measured, workers),
        "" if gpu else _sharing_words(cpus),
    ]
    return replace(
        verdict,
        sentences=tuple(text for text in (first, second) if text),
        details=tuple(text for text in details if text),
    )


def _loader_words(verdict: Verdict, measured: Measured, cpus: float, workers: int, gpu: bool) -> str:
    head = f"{_capital(_named(verdict.bottleneck))} is the bottleneck"
    demand, rate = verdict.model_images_per_s, measured.loader or verdict.loader.images_per_s
    needed = verdict.cpus_needed
    if not gpu:
        return (
            f"{head}: the loader with {_count(workers, 'worker')} gives {_rate(rate)}, "
            f"and the model step alone could take {_rate(demand)}."
        )
    if needed > cpus:
        return f"{head}: the loader needs {_count(needed, 'CPU')} for {_rate(demand)}, and you have {cpus:g}."
    return (
        f"{head}: the loader needs {_count(needed, 'CPU')} of your {cpus:g} for {_rate(demand)}, "
        f"and {_count(workers, 'worker')} give{'s' * (workers == 1)} {_rate(rate)}."
    )


def _outlook(verdict: Verdict, best: Fix | None, freed: float | None) -> str:
    """What would help, and what comes next."""
    parts = []
    if freed is not None and freed >= 0.05:
        parts.append(f"RandAugment on the device already frees {freed:.2g} of them")
    if best is not None:
        rate = _rate(best.images_per_s.median)
        parts.append(f"Predicted with {best.name}: {rate} ({_times(best.gain)})")
    following = verdict.following
    if following is not None:
        gain = following.images_per_s / verdict.together.images_per_s
        text = f"Without the cost of {_named(verdict.bottleneck)}, {_named(following.stage)} would be "
        text += f"the next limit, at {_rate(following.images_per_s)} ({_times(gain)})"
        parts.append(text + (": a small gain, since the two are balanced" if gain < _BALANCED else ""))
    return ". ".join(parts) + "." if parts else ""


def _waiting_words(verdict: Verdict, measured: Measured, cpus: float, workers: int) -> str:
    rate = measured.loader or verdict.loader.images_per_s
    demand = verdict.model_images_per_s
    waiting = max(0.0, 1.0 - rate / demand)
    text = (
        f"The loader with {_count(workers, 'worker')} gives {_rate(rate)}, and the model step alone could "
        f"take {_rate(demand)}"
    )
    text += f", so it would wait {waiting:.0%} of the time." if waiting >= 0.01 else "."
    if verdict.together.bound == "workers" and workers + 1 <= cpus:
        text += f" More workers would help: {workers} of {cpus:g} usable CPUs decode."
    return text


def _sharing_words(cpus: float) -> str:
    return (
        f"Model and loader share {_count(cpus, 'CPU')} here, so each takes CPU time from the other. "
        "There is no GPU: the GPU half (transfer, kernels, a GPU's model step) was not measured."
    )


def _model_words(verdict: Verdict, measured: Measured, workers: int) -> str:
    rate = measured.loader or verdict.loader.images_per_s
    factor = rate / verdict.model_images_per_s
    faster = (
        f"{_times(factor)} as fast as needed"
        if factor >= _BALANCED
        else "about as fast: the two are balanced"
    )
    return (
        f"{_capital(_named(verdict.bottleneck))} is the bottleneck: alone it takes "
        f"{_rate(verdict.model_images_per_s)}, "
        f"and the loader with {_count(workers, 'worker')} gives {_rate(rate)}, {faster}."
    )


def _scaling_words(verdict: Verdict, stages: Sequence[StageCost], cpus: float) -> str:
    name = verdict.slowest_loader_stage
    (stage,) = (stage for stage in stages if stage.id == name)
    if stage.cpu_ms <= 0.0:
        return ""
    total = sum(other.cpu_ms for other in stages if other.lane != "model")
    text = (
        f"Within the loader {_named(name)} costs most, {stage.cpu_ms:.2f} of {total:.2f} CPU-ms per image: "
        f"1 core does {_rate(1000.0 / stage.cpu_ms)} of it"
    )
    return text + (f", {cpus:g} cores {_rate(cpus * 1000.0 / stage.cpu_ms)}." if cpus != 1 else ".")


def _check_words(verdict: Verdict, measured: Measured, workers: int) -> list[str]:
    pairs = (
        (f"The loader alone with {_count(workers, 'worker')}", verdict.loader, measured.loader),
        ("Loader and model together", verdict.together, measured.together),
    )
    return [
        f"{name}: {_rate(foretold.images_per_s)}{_between(foretold)} predicted from "
        f"{'the scaling curve' if foretold.low is not None else 'the stage costs'}, {_rate(found)} measured "
        f"(prediction {foretold.images_per_s / found - 1.0:+.0%})."
        for name, foretold, found in pairs
        if found is not None
    ]


def _between(found: Forecast) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" ({found.low:,.0f} to {found.high:,.0f})"


def _rate(images_per_s: float) -> str:
    digits = 1 if images_per_s < 10 else 0
    return f"{images_per_s:,.{digits}f} images/s"


def _times(factor: float) -> str:
    return f"{factor:,.0f}x" if factor >= 10 else f"{factor:.2g}x"


def _count(number: float, noun: str) -> str:
    shown = f"{number:.2g}" if number < 10 and number != int(number) else f"{number:,.0f}"
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"


def _named(stage: Id) -> str:
    """The stage in a sentence: a name of two words, which is a thing, gets an article."""
    name = words(stage)
    return f"the {name}" if " " in name else name


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
