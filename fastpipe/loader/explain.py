"""What `loader.explain()` returns: the plan in words."""

from __future__ import annotations

from dataclasses import dataclass

from fastpipe.backends.registry import load
from fastpipe.device.engines.make import engine_note
from fastpipe.loader.asked import Asked
from fastpipe.loader.plan import Planned, count_classes
from fastpipe.loader.stats import Tally
from fastpipe.transforms import output_dtype
from fastpipe.types import Choice, StepNote

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where each step runs and why; `str()` prints it.

    `choice` is None when nothing was lifted; `reason` then says why.
    """

    lifted: bool
    reason: str
    steps: tuple[StepNote, ...]
    choice: Choice | None
    facts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        head = f"fastpipe: {'lifted' if self.lifted else 'nothing lifted'}: {self.reason}"
        return "\n".join([head, *self._step_lines(), *self._choice_lines(), *self._fact_lines()])

    def _step_lines(self) -> list[str]:
        width = max((len(note.step) for note in self.steps), default=0)
        return [f"  {note.step:<{width}}  {note.where:<7}  {note.why}" for note in self.steps]

    def _choice_lines(self) -> list[str]:
        if self.choice is None:
            return []
        lines = [f"  backend {self.choice.backend}: {self.choice.reason}"]
        return lines + [f"  not {name}: {why}" for name, why in self.choice.rejected.items()]

    def _fact_lines(self) -> list[str]:
        return [f"  {name}: {value}" for name, value in self.facts]


def facts_of(
    asked: Asked, planned: Planned, choice: Choice | None, tally: Tally
) -> tuple[tuple[str, str], ...]:
    """The facts that hold for every batch of this loader, and what went to Pillow so far."""
    drawn_by = "torch" if asked.seed is None else f"seed {asked.seed}"
    sampler = asked.deciding_sampler
    facts = [("order", f"{type(sampler).__name__}, drawn by {drawn_by}")]
    facts.append(("workers", _workers(asked.num_workers, choice)))
    if planned.plan is None:
        facts.append(("device", str(asked.device or "cpu (no device= was given)")))
        return tuple(facts)
    dtype = asked.dtype or output_dtype(planned.plan)
    layout = "channels_last" if str(asked.memory_format).endswith("channels_last") else "contiguous"
    facts.append(("batch", f"{str(dtype).removeprefix('torch.')}, {layout}, on {asked.target}"))
    if any(step.kind == "mix" for step in planned.plan.device) and asked.engine != "none":
        num = count_classes(asked.dataset, asked.num_classes, planned.num_classes)
        classes = "of unknown width: pass num_classes=" if num is None else f"[B, {num}]"
        facts.append(("labels", f"float32 {classes}, mixed; with attributes hard_labels, partner and weight"))
    facts.append(("engine", engine_note(asked.engine, asked.target)))
    policy = any(step.kind == "randaugment" for step in planned.plan.device)
    own = (
        ", except the policy's operations, which are kornia's" if policy and asked.engine == "kornia" else ""
    )
    facts.append(("numerics", asked.kept_numerics + own))
    if handed := tally.handed():
        facts.append(("handed to Pillow", handed))
    return tuple(facts)


def _workers(num_workers: int, choice: Choice | None) -> str:
    if not num_workers:
        return "the script's own process"
    if choice is not None and load(choice.backend).capabilities.workers == "threads":
        return f"{num_workers!r} threads of the script's own process"
    return f"{num_workers!r} worker processes"
