"""FFCV's ramp against the table of its six ResNet-50 configurations."""

from __future__ import annotations

import pytest

from fastpipe.train.algorithms.ramp_resizing import RampSize


@pytest.mark.parametrize(
    ("epochs", "start", "end", "first_at_192"),
    [
        (16, 11, 13, 12),
        (24, 17, 20, 19),
        (32, 23, 27, 25),
        (40, 29, 34, 32),
        (56, 41, 48, 45),
        (88, 65, 76, 71),
    ],
)
def test_each_configuration_switches_at_its_published_epoch(
    epochs: int, start: int, end: int, first_at_192: int
) -> None:
    size = RampSize(initial=160, full=192, start_epoch=start, end_epoch=end)
    sizes = [size(epoch, 0) for epoch in range(epochs)]
    assert set(sizes) == {160, 192}
    assert sizes.index(192) == first_at_192
    assert sizes == sorted(sizes)
