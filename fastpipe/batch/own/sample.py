"""Where the image lies in a sample, and in the batch that default_collate makes of such samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastpipe.batch.own.handed import Handed

__all__ = ["Place", "with_images"]

Place = tuple[Any, ...]

_HOLE = 0  # stands for the image while the rest of the sample is collated


def places_of(sample: Any, token: Handed) -> Iterator[Place]:
    """Every place of the token: keys and positions from the outside in. () if it is the sample itself."""
    if sample is token:
        yield ()
    elif isinstance(sample, dict):
        for key, value in sample.items():
            yield from ((key, *place) for place in places_of(value, token))
    elif isinstance(sample, tuple | list):
        for position, value in enumerate(sample):
            yield from ((position, *place) for place in places_of(value, token))


def is_pair(sample: Any) -> bool:
    """Whether it has the form (image, label), whose batches are `[images, labels]`."""
    return type(sample) in (tuple, list) and len(sample) == 2


def strange_container(sample: Any, place: Place) -> str | None:
    """The name of a class around the image that default_collate may not keep; None if all are plain."""
    for key in place:
        named = isinstance(sample, tuple) and hasattr(sample, "_fields")
        if type(sample) not in (tuple, list, dict) and not named:
            return type(sample).__name__
        sample = sample[key]
    return None


def without_image(sample: Any, place: Place) -> Any:
    """A copy of the sample with a number in the image's place; what lies beside it is shared."""
    if not place:
        return _HOLE
    inner = without_image(sample[place[0]], place[1:])
    return _replaced(sample, place[0], inner)


def with_images(batch: Any, place: Place, images: Any) -> Any:
    """The collated batch with the images in their place."""
    if not place:
        return images
    return _replaced(batch, place[0], with_images(batch[place[0]], place[1:], images))


def _replaced(holder: Any, key: Any, value: Any) -> Any:
    if isinstance(holder, dict):
        return {**holder, key: value}
    items = [*holder[:key], value, *holder[key + 1 :]]
    if isinstance(holder, list):
        return items
    return type(holder)(*items) if hasattr(holder, "_fields") else tuple(items)
