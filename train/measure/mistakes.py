"""The wrong answers of which a model was most certain, and their pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from fastpipe.batch.locate import locate
from fastpipe.train.betons import dataset_of
from fastpipe.train.measure.judged import Judged
from fastpipe.train.splits import Images


def mistakes_of(judged: Judged, images: Images, classes: Sequence[str], most: int) -> list[dict[str, Any]]:
    """At most `most` wrong answers, the most certain first.

    id: the place in the split. path: relative to the split's folder, or the name in its file. probability
    and probability_of_label: 0..1, of the predicted class and of the right one.
    """
    wrong = np.flatnonzero(~judged.right)
    # Rounded first, so that the order does not depend on the last bits, which differ by batch size.
    sure = judged.confidence[wrong].round(6)
    chosen = wrong[np.lexsort((judged.ids[wrong], -sure))][:most]
    return [
        {
            "id": int(judged.ids[i]),
            "path": name_of(images, int(judged.ids[i])),
            "label": classes[judged.labels[i]],
            "predicted": classes[judged.predicted[i]],
            "probability": round(float(judged.confidence[i]), 6),
            "probability_of_label": round(float(judged.of_label[i]), 6),
        }
        for i in chosen.tolist()
    ]


def _plain(image: Image.Image) -> Image.Image:
    return image


def name_of(images: Images, sample_id: int) -> str:
    """The path of one image relative to the folder of its split, or its name in the file of the split."""
    leaf, index = locate(dataset_of(images, _plain), sample_id)
    name, root = leaf.name(index), leaf.root or ""
    inside = bool(root) and name.startswith(os.path.join(root, ""))
    return os.path.relpath(name, root) if inside else name


def picture_of(images: Images, sample_id: int, side: int) -> Image.Image:
    """One image, RGB, shrunk to at most `side` x `side` pixels. Raises SampleError if it cannot be read."""
    leaf, index = locate(dataset_of(images, _plain), sample_id)
    picture = leaf.rgb(index)
    picture.thumbnail((side, side))
    return picture
