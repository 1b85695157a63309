"""The test-time flip averages an image and its mirror."""

from __future__ import annotations

import torch

from fastpipe.train.algorithms.test_time_flip import flipped_logits


def test_logits_are_the_mean_over_both_mirrors_and_so_invariant_to_them() -> None:
    weights = torch.randn(3 * 4 * 5, 7, generator=torch.Generator().manual_seed(1))
    images = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))

    def forward(batch: torch.Tensor) -> torch.Tensor:
        return batch.flatten(1) @ weights

    logits = flipped_logits(forward, images)
    torch.testing.assert_close(logits, (forward(images) + forward(images.flip(3))) / 2)
    torch.testing.assert_close(logits, flipped_logits(forward, images.flip(3)))
