"""What is in a batch: crops, flips, pixels, dtypes and layout, and that it stays the consumer's."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from fastpipe import augment
from fastpipe.decode import Box

ALL = pytest.mark.parametrize("workers", [0, 1, 3])


def _cut(image, box, size):
    piece = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    return np.asarray(piece.resize((size, size), Image.Resampling.BILINEAR)).astype(np.float64)


@ALL
def test_pixels_of_training(lab, record_property):
    """pixels of RandomResizedCrop and flip compared with Pillow, for every numerics that it claims"""
    for numerics in lab.claims.numerics:
        loader = lab.loader(shuffle=True, numerics=numerics)
        loader.set_epoch(1)
        images = torch.cat([images for images, _ in loader])
        expected = lab.expected(lab.order(1), epoch=1)
        record_property(f"train {numerics}", lab.measured(images, expected, numerics))
        lab.check(images, expected, numerics)


@pytest.mark.parametrize("workers", [0, 1])
def test_pixels_of_validation(lab, record_property):
    """pixels of Resize and CenterCrop compared with torchvision, for every numerics that it claims"""
    for numerics in lab.claims.numerics:
        images = torch.cat([images for images, _ in lab.loader(lab.eval, numerics=numerics)])
        expected = lab.expected_eval(range(lab.num))
        record_property(f"eval {numerics}", lab.measured(images, expected, numerics))
        lab.check(images, expected, numerics)


@pytest.mark.parametrize("workers", [0, 1])
def test_boxes_are_the_references(lab):
    """boxes: the reference's box explains the pixels better than any box shifted by one pixel"""
    steps = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    ids = [9, 9, *range(lab.num)]
    repeats = [0, 1, *(1 if i == 9 else 0 for i in range(lab.num))]
    repeats[2 + 9] = 2
    # At 64 pixels no crop is 2.5 times its target, where numerics="fast" may decode at half the resolution.
    ((images, labels),) = lab.loader(steps, batch_size=len(ids), sampler=ids, resolution=64)
    assert labels.tolist() == ids
    levels = images.permute(0, 2, 3, 1).numpy().astype(np.float64) * 255
    moves = [
        (t, x, h, w) for t in (-1, 0, 1) for x in (-1, 0, 1) for h, w in ((0, 0), (1, 0), (0, 1), (-1, -1))
    ]
    for place, (sample_id, repeat) in enumerate(zip(ids, repeats, strict=True)):
        picture, box = lab.picture(sample_id), lab.box(sample_id, repeat=repeat)
        errors = {}
        for top, left, height, width in moves:
            other = Box(box.top + top, box.left + left, box.height + height, box.width + width)
            errors[top, left, height, width] = np.abs(_cut(picture, other, 64) - levels[place]).mean()
        best = min(errors, key=errors.__getitem__)
        assert best == (0, 0, 0, 0), f"id {sample_id}, repeat {repeat}: {box} fits worse than moved by {best}"


@pytest.mark.parametrize("workers", [0, 1])
def test_flips_are_the_references(lab):
    """flips are those of the reference, repeated ids included"""
    ids = [4, 4, 4, *range(lab.num)]
    seen = {}
    repeats = [seen.setdefault(i, []).append(0) or len(seen[i]) - 1 for i in ids]
    images, _, params = next(iter(lab.loader(batch_size=len(ids), sampler=ids, engine="none")))
    assert images.dtype == torch.uint8 and images.shape == (len(ids), 32, 32, 3) and images.is_contiguous()
    wanted = [lab.flipped(i, repeat=repeat) for i, repeat in zip(ids, repeats, strict=True)]
    assert params.flip.tolist() == wanted
    assert 0 < sum(wanted) < len(wanted)


@pytest.mark.parametrize("workers", [0, 1])
def test_dtypes_layout_and_contiguity(lab):
    """dtypes, memory formats and contiguity"""
    for dtype in (None, torch.float16, torch.bfloat16):
        images, labels = next(iter(lab.loader(dtype=dtype)))
        assert images.dtype == (dtype or torch.float32) and labels.dtype == torch.int64
        assert images.shape == (6, 3, 32, 32) and images.is_contiguous() and labels.is_contiguous()
        assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.05
    images, _ = next(iter(lab.loader(memory_format=torch.channels_last)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, next(iter(lab.loader()))[0])


@ALL
def test_a_delivered_batch_stays_the_consumers(lab):
    """ownership: every batch of two epochs is kept, and none is overwritten"""
    loader = lab.loader(batch_size=2, shuffle=True)
    kept, copies = [], []
    for _ in range(2):
        for images, labels in loader:
            kept.append((images, labels))
            copies.append((images.clone(), labels.clone()))
    for (images, labels), (pixels, numbers) in zip(kept, copies, strict=True):
        assert torch.equal(images, pixels) and torch.equal(labels, numbers)
    for batch in (next(iter(lab.loader(engine="none"))), kept[0]):
        batch[0].zero_()
    assert torch.equal(next(iter(lab.loader(batch_size=2, shuffle=True)))[0], copies[0][0])


@ALL
def test_equal_bytes_for_every_worker_count(lab):
    """the bytes do not depend on the worker count"""
    here, alone = lab.loader(shuffle=True), lab.loader(shuffle=True, num_workers=0)
    for (images, labels), (pixels, numbers) in zip(here, alone, strict=True):
        assert labels.tolist() == numbers.tolist()
        assert torch.equal(images, pixels)


def test_resolution_by_epoch_and_batch(lab):
    """resolution as a function of epoch and batch, one resize from the crop"""
    loader = lab.loader(shuffle=True, resolution=lambda epoch, batch: 24 + 8 * epoch + 4 * batch)
    for epoch in range(2):
        for number, (images, labels) in enumerate(loader):
            size = 24 + 8 * epoch + 4 * number
            assert images.shape[2:] == (size, size)
            lab.check(images, lab.expected(labels.tolist(), epoch=epoch, size=size))


def test_set_resolution_at_a_step(lab):
    """set_resolution takes effect with the next delivered batch"""
    loader = lab.loader(shuffle=True, batch_size=4)
    reference = list(lab.loader(shuffle=True, batch_size=4, resolution=24))
    whole = list(lab.loader(shuffle=True, batch_size=4))
    batches = []
    for number, batch in enumerate(loader):
        batches.append(batch)
        if number == 1:
            loader.set_resolution(24)
    for number, (images, labels) in enumerate(batches):
        wanted = (whole if number < 2 else reference)[number]
        assert labels.tolist() == wanted[1].tolist()
        assert torch.equal(images, wanted[0])


@pytest.mark.parametrize("workers", [1])
def test_augmentations_run_after_every_backend(lab):
    """RandAugment, ColOut and MixUp: the same draws as with the torchvision backend"""
    given = [augment.RandAugment(), augment.ColOut(p_row=0.1, p_col=0.1), augment.MixUp(alpha=0.2)]
    options = dict(augment=given, num_classes=lab.num, shuffle=True)
    drawn = lab.loader(engine="none", **options)
    reference = lab.loader(engine="none", **{**options, "backend": "torchvision", "numerics": "exact"})
    for (images, labels, ours), (_, numbers, theirs) in zip(drawn, reference, strict=True):
        assert images.dtype == torch.uint8 and labels.tolist() == numbers.tolist()
        assert _equal(ours, theirs)
    images, labels = next(iter(lab.loader(**options)))
    assert images.shape == (6, 3, 28, 28) and labels.shape == (6, lab.num)
    assert torch.allclose(labels.sum(1), torch.ones(6))


def _equal(ours, theirs):
    if isinstance(ours, np.ndarray):
        return np.array_equal(ours, theirs)
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    names = getattr(type(ours), "__dataclass_fields__", None)
    if names is None:
        return ours == theirs
    return all(_equal(getattr(ours, name), getattr(theirs, name)) for name in names)
