"""The plan for a script's own data set: its proof, and what may be added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from fastpipe.batch.own.isolated import Refused
from fastpipe.batch.own.probe import Proof, prove
from fastpipe.batch.own.twin import Snapshot, spots_of
from fastpipe.errors import ArgumentError
from fastpipe.transforms import lift
from fastpipe.transforms.draws import draws_numbers
from fastpipe.transforms.read import describe
from fastpipe.types import Plan, Spec, StepNote

__all__ = ["Proofs"]

_LEVELS: Final = ("to_float", "normalize")  # kinds of steps that move no pixel
_PAIRED_DRAWS: Final = (
    "its __getitem__ draws from a global generator or seeds one, and {} draws too: such draws may belong "
    "together, as those of an image and its mask under one seed"
)


class Proofs:
    """What one loader knows about its data set: its proof or refusal, and why lifting ended."""

    def __init__(self) -> None:
        self._kept: tuple[Snapshot, tuple[Proof, Image.Image] | str] | None = None
        self._ended: tuple[list[Any], str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Why lifting ended goes along, with the pipelines of the same pickle; a proof is made anew."""
        return {"_kept": None, "_ended": self._ended}

    def of(self, dataset: Any) -> tuple[Proof, Image.Image] | str:
        """The proof and an image to try steps on, or why there is none. A new one if an attribute was set."""
        if self._kept is None or not self._kept[0].is_of(dataset):
            snapshot = Snapshot(dataset)
            try:
                self._kept = snapshot, prove(dataset)
            except Refused as reason:
                self._kept = snapshot, str(reason)
        return self._kept[1]

    def end(self, dataset: Any, reason: str | None) -> None:
        """Lift no more while the data set has these pipelines; None: lift again."""
        self._ended = None if reason is None else (_pipelines(dataset), reason)

    def ended(self, dataset: Any) -> str | None:
        """Why lifting ended; None if it did not."""
        if self._ended is None or not _same(self._ended[0], _pipelines(dataset)):
            return None
        return self._ended[1]


def _pipelines(dataset: Any) -> list[Any]:
    return [spot.pipeline for spot in spots_of(dataset)]


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def refusal_of_arguments(backend: str, on_error: str) -> str | None:
    """Why these arguments leave a script's own data set unlifted; None if they do not."""
    if backend not in ("auto", "torchvision"):
        return f"the backend {backend} decodes files, and a __getitem__ of one's own decodes them itself"
    if on_error == "replace":
        return "on_error='replace' needs to know the class of a sample before it is made"
    return None


def lift_own(
    proof: Proof, image: Image.Image, *, mixes: bool = False
) -> tuple[Plan | None, Proof, str, tuple[StepNote, ...]]:
    """The plan of the pipeline, or None; the proof with `watched`; the reason, and a note for each step.

    mixes: collate_fn mixes images, by numbers that it draws.
    """
    lifted = lift(proof.pipeline, sample=image)
    if lifted.plan is None:
        return None, proof, lifted.reason, lifted.notes
    watched = "its transform" if draws_numbers(lifted.plan) else "collate_fn" if mixes else ""
    proof = replace(proof, watched=watched)
    if proof.draws and watched:
        unlifted = tuple(replace(note, where="torch", why="nothing was lifted") for note in lifted.notes)
        return None, proof, _PAIRED_DRAWS.format(watched), unlifted
    notes = tuple(map(_on_the_worker, lifted.notes))
    opening = [StepNote(step=describe(step), where="worker", why="comes first") for step in proof.opening]
    notes = (*opening, *notes)
    return replace(lifted.plan, notes=notes), proof, "", notes


def _on_the_worker(note: StepNote) -> StepNote:
    if note.where != "decoder":
        return note
    return replace(note, where="worker", why="cropped and resized there, in place of the transform")


def check_additions(proof: Proof, augment: Sequence[Spec], engine: str) -> None:
    """Raise ArgumentError for what the form of the samples does not allow."""
    for spec in augment:
        if proof.marked and spec.kind not in _LEVELS:
            raise ArgumentError(
                f"augment must move no pixels if samples have masks or boxes, which would have to move with "
                f"them. Found: {spec!r}. Leave it out, or apply it in the data set's __getitem__"
            )
        if spec.kind == "mix" and not proof.plain:
            raise ArgumentError(
                f"augment mixes labels only in samples of the form (image, label). Found: {spec!r} and a "
                f"sample with its image at {list(proof.place)}"
            )
    if engine == "none" and not proof.plain:
        raise ArgumentError(
            "engine must be 'fused', 'torch' or 'kornia' for samples that are not (image, label). "
            "Found: 'none'"
        )


def words_of(dataset: Any, proof: Proof) -> str:
    """The reason that `explain()` gives for a lifted data set."""
    return (
        f"{type(dataset).__name__} with a torchvision pipeline in {proof.name!r}, lifted by proof: every "
        f"sample is checked"
    )
