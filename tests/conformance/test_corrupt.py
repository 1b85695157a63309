"""One broken sample at the start, in the middle and at the end: the same policy on every backend."""

import logging
import shutil

import pytest
import torch

from fastpipe import SampleError

# Of 20 samples in batches of 6: the first, one in the middle, and the last of the partial batch, all JPEG.
PLACES = {"first": 0, "middle": 9, "last": 19}
QUICK = [("first", 0), ("middle", 0), ("last", 0), ("middle", 1)]
PRODUCT = [
    pytest.param(place, workers, marks=() if (place, workers) in QUICK else pytest.mark.slow)
    for place in PLACES
    for workers in (0, 1, 3)
]
pytestmark = pytest.mark.parametrize(("place", "workers"), PRODUCT)


@pytest.fixture
def broken(place, lab, tmp_path):
    """(data set with one unreadable image, its id)."""
    sample_id = PLACES[place]
    if lab.storage == "folder":
        root = tmp_path / "data"
        shutil.copytree(lab.path("classes"), root)
        path = root / lab.data.files["classes"][sample_id].relative_to(lab.path("classes"))
        path.write_bytes(path.read_bytes()[:200])
        return lab.dataset(path=root), sample_id
    path = tmp_path / "data.beton"
    shutil.copy(lab.path("classes"), path)
    beton = lab.dataset(path=path).beton
    assert beton.modes[sample_id] == 0
    with path.open("r+b") as file:
        file.seek(int(beton.pointers[sample_id]))
        file.write(bytes(int(beton.lengths[sample_id])))
    return lab.dataset(path=path), sample_id


def test_raise(lab, broken):
    """on_error="raise" names the sample; the loader works again afterwards"""
    dataset, sample_id = broken
    loader = lab.loader(dataset=dataset)
    with pytest.raises(SampleError) as caught:
        list(loader)
    assert caught.value.sample_id == sample_id
    with pytest.raises(SampleError):
        list(loader)


def outcomes(iterator):
    """Batches, and None for each that raised, as a script's own `while` with a `try` in it sees them."""
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except SampleError:
            yield None


def test_going_on(lab, broken, saved):
    """on_error="raise": iterator and state continue after a batch that raised, as torch's iterator does"""
    dataset, sample_id = broken
    whole = list(lab.loader(labels="classes"))
    whole[sample_id // 6] = None
    loader = lab.loader(dataset=dataset)
    states = []
    for number, batch in enumerate(outcomes(iter(loader))):
        _same(batch, whole[number])
        states.append(saved(loader.state_dict()))
    assert len(states) == 4 and states[-1]["delivered"] == (4 if whole[-1] else 3)
    for number, state in enumerate(states[:3]):
        resumed = lab.loader(dataset=dataset)
        resumed.load_state_dict(state)
        # Where the script stopped at the error, the batch is still to come, and raises again.
        first = number if whole[number] is None else number + 1
        rest = list(outcomes(iter(resumed)))
        assert len(rest) == 4 - first
        for batch, expected in zip(rest, whole[first:], strict=True):
            _same(batch, expected)


def _same(batch, expected):
    assert (batch is None) == (expected is None)
    if batch is not None:
        assert torch.equal(batch[0], expected[0]) and torch.equal(batch[1], expected[1])


def test_skip(lab, broken, caplog):
    """on_error="skip": that batch is shorter, the others are unchanged, the log says so"""
    dataset, sample_id = broken
    whole = list(lab.loader(labels="classes"))
    with caplog.at_level(logging.WARNING, "fastpipe"):
        batches = list(lab.loader(dataset=dataset, on_error="skip"))
    assert str(sample_id) in caplog.text
    for number, ((images, labels), (pixels, numbers)) in enumerate(zip(batches, whole, strict=True)):
        keep = [place for place in range(len(numbers)) if number * 6 + place != sample_id]
        assert labels.tolist() == numbers[keep].tolist()
        assert torch.equal(images, pixels[keep])


def test_replace(lab, broken, caplog):
    """on_error="replace": the same image of the class each time, the others are unchanged, the log says so"""
    dataset, sample_id = broken
    whole = list(lab.loader(labels="classes"))
    with caplog.at_level(logging.WARNING, "fastpipe"):
        runs = [
            list(lab.loader(dataset=dataset, on_error="replace", num_workers=n)) for n in (lab.workers, 0)
        ]
    assert str(sample_id) in caplog.text
    for number, ((images, labels), (again, _), (pixels, numbers)) in enumerate(
        zip(*runs, whole, strict=True)
    ):
        assert torch.equal(images, again)
        assert labels.tolist() == numbers.tolist()
        keep = [place for place in range(len(numbers)) if number * 6 + place != sample_id]
        assert torch.equal(images[keep], pixels[keep])
        if len(keep) < len(numbers):
            assert images[sample_id - number * 6].std() > 0.02, "a picture, not what the buffer held"
