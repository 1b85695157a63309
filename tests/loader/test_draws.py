"""What the script's own code draws from global generators: when, in which thread, never twice the same."""

import random
import threading

import numpy as np
import pytest
import torch
import torch.utils.data
from torch.utils.data import ConcatDataset, RandomSampler, Sampler, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import DataLoader
from fastpipe.batch.worker import reseed

TorchLoader = torch.utils.data.DataLoader
PLAIN = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
BACKENDS = [
    "torchvision",
    pytest.param("dali", marks=pytest.mark.dali),
    pytest.param("ffcv", marks=pytest.mark.ffcv),
]


class Noise:
    """A step of the script's own: paints the whole image in a grey drawn from three generators."""

    def __call__(self, image):
        level = random.randrange(80) + int(np.random.randint(80)) + int(torch.randint(80, ()))
        return image.point(lambda _: level)


def _drawn_label(label):
    return int(np.random.randint(1 << 30)) + int(torch.randint(1 << 30, ())) + random.randrange(1 << 30)


def _images(photos, transform):
    return ImageFolder(str(photos), transform)


NOISY = transforms.Compose([transforms.Resize((16, 16)), Noise(), transforms.ToTensor()])


def _greys(batches):
    return [round(float(image[0, 0, 0]) * 255) for images, _ in batches for image in images]


def _seeded():
    random.seed(3), np.random.seed(3), torch.manual_seed(3)


def _states():
    return random.getstate()[1], tuple(np.random.get_state()[1]), tuple(torch.get_rng_state().tolist())


@pytest.mark.parametrize(
    "steps", [NOISY, transforms.Compose([transforms.RandomGrayscale(0.5), *PLAIN.transforms])]
)
def test_steps_of_the_script_draw_as_under_torch(photos, steps):
    """num_workers=0, no seed: each batch drew what the batch before had drawn."""
    runs = []
    for cls in (TorchLoader, DataLoader):
        _seeded()
        loader = cls(_images(photos, steps), 4)
        runs.append(([torch.cat([images for images, _ in loader]) for _ in range(2)], _states()))
    for ours, theirs in zip(runs[1][0], runs[0][0], strict=True):
        assert torch.equal(ours, theirs)
    assert runs[0][1] == runs[1][1], "the generators are where torch leaves them"
    assert not torch.equal(*runs[1][0])


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, range(24)), lambda d: ConcatDataset([d])])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_random_target_transform_draws_as_under_torch(photos, labelled, backend, wrap):
    drawn = []
    for cls, options in ((TorchLoader, {}), (DataLoader, dict(backend=backend, numerics="exact"))):
        _seeded()
        loader = cls(wrap(labelled(backend if cls is DataLoader else "", PLAIN, _drawn_label)), 4, **options)
        epochs = [[label for _, labels in loader for label in labels.tolist()] for _ in range(2)]
        drawn.append((epochs, _states()))
    assert drawn[0] == drawn[1]
    assert len({label for epoch in drawn[1][0] for label in epoch}) == 48


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_random_target_transform_leaves_the_scripts_generators_alone(labelled, backend, workers):
    """Each sample has its own draw, the same in every run, and the script's sequence goes on without it."""
    runs = []
    for _ in range(2):
        _seeded()
        loader = DataLoader(
            labelled(backend, PLAIN, _drawn_label), 4, num_workers=workers, backend=backend, numerics="exact"
        )
        labels, script = [], []
        for _, batch in loader:
            labels += batch.tolist()
            script.append((random.random(), np.random.rand(), torch.rand(()).item()))
        runs.append((labels, script))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) == 24
    _seeded()
    torch.empty((), dtype=torch.int64).random_()  # the iterator's base seed
    assert runs[0][1] == [(random.random(), np.random.rand(), torch.rand(()).item()) for _ in range(6)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_seed_a_random_target_transform_is_keyed_by_its_sample(labelled, backend):
    runs = []
    for workers in (0, 1, 2):
        loader = DataLoader(
            labelled(backend, PLAIN, _drawn_label),
            4,
            num_workers=workers,
            seed=5,
            backend=backend,
            numerics="exact",
        )
        _seeded()
        runs.append([label for _, labels in loader for label in labels.tolist()])
        after = _states()
        _seeded()
        torch.empty((), dtype=torch.int64).random_()  # the iterator's base seed
        assert after == _states(), "seeded steps leave the script's generators as they were"
    torchvisions = DataLoader(labelled("torchvision", PLAIN, _drawn_label), 4, seed=5)
    runs.append([label for _, labels in torchvisions for label in labels.tolist()])
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len(set(runs[0])) == 24


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_target_transform_raises_in_its_turn(labelled, backend, workers):
    def refuse(label):
        if label == 9:
            raise KeyError("no name for 9")
        return label

    loader = DataLoader(
        labelled(backend, PLAIN, refuse), 4, num_workers=workers, backend=backend, numerics="exact"
    )
    iterator = iter(loader)
    assert [next(iterator)[1].tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(KeyError, match="no name for 9"):
        next(iterator)
    assert [labels.tolist() for _, labels in iterator] == [
        [12, 13, 14, 15],
        [16, 17, 18, 19],
        [20, 21, 22, 23],
    ]


class Lazy(Sampler):
    """Batches drawn one by one from numpy's global generator, as re-identification samplers do."""

    def __init__(self, num, size, batches):
        self.num, self.size, self.batches = num, size, batches
        self.drawn, self.threads = 0, set()

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            self.threads.add(threading.current_thread())
            self.drawn += self.size
            yield np.random.choice(self.num, self.size).tolist()


def _run_ahead(cls, dataset, workers, **options):
    """Ids drawn by the time each batch is there, and what the script drew in between."""
    np.random.seed(1)
    sampler = Lazy(24, 3, 8)
    counts, script, ids = [], [], []
    for _, labels in cls(dataset, batch_sampler=sampler, num_workers=workers, **options):
        counts.append(sampler.drawn)
        script.append(np.random.rand())
        ids += labels.tolist()
    assert sampler.threads == {threading.main_thread()}
    return counts, script, ids


@pytest.mark.parametrize("prefetch", [None, 1, 3])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("backend", [*BACKENDS, "torch"])
def test_the_sampler_runs_in_the_scripts_thread_at_torchs_moments(labelled, backend, workers, prefetch):
    if prefetch is not None and not workers:
        prefetch = None
    options = {} if prefetch is None else dict(prefetch_factor=prefetch)
    theirs = _run_ahead(TorchLoader, labelled("", PLAIN), workers, **options)
    ours = _run_ahead(
        DataLoader, labelled(backend, PLAIN), workers, backend=backend, numerics="exact", **options
    )
    assert ours == theirs


def test_the_figure_of_the_report(labelled):
    """One worker, batches of 3: nine ids are drawn when the first batch comes."""
    assert _run_ahead(DataLoader, labelled("torchvision", PLAIN), 1)[0][0] == 9


@pytest.mark.parametrize("options", [dict(seed=3), dict(on_error="skip", quarantine=False)])
@pytest.mark.parametrize("workers", [1, 2])
def test_so_it_does_for_data_sets_that_are_not_lifted(labelled, workers, options):
    class Own(ImageFolder):
        def __getitem__(self, index):
            return super().__getitem__(index)

    dataset = labelled("", PLAIN)
    dataset.__class__ = Own
    theirs = _run_ahead(TorchLoader, dataset, workers)
    assert _run_ahead(DataLoader, dataset, workers, **options) == theirs
    assert _run_ahead(DataLoader, dataset, workers, device="cpu", **options) == theirs


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_more_is_requested_after_another_resolution(labelled, backend):
    """At most prefetch_factor x num_workers batches beyond those delivered, also after set_resolution."""
    crop = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])
    sampler = Lazy(24, 3, 12)
    loader = DataLoader(
        labelled(backend, crop),
        batch_sampler=sampler,
        num_workers=2,
        prefetch_factor=2,
        backend=backend,
        numerics="exact",
    )
    sizes = []
    for number, (images, _) in enumerate(loader):
        assert sampler.drawn <= 3 * (number + 1 + 4)
        sizes.append(images.shape[-1])
        if number in (2, 5):
            loader.set_resolution(20 + 4 * number)
    assert sizes == [16] * 3 + [28] * 3 + [40] * 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failing_batch_does_not_stop_the_requests(photos, labelled, backend):
    """With one request ahead the epoch would hang, were none drawn behind an error."""
    batches = [[0, 1], ["x"], [2.5], [3, 4], [], [5]]
    loader = DataLoader(
        labelled(backend, PLAIN),
        batch_sampler=batches,
        num_workers=1,
        prefetch_factor=1,
        backend=backend,
        numerics="exact",
    )
    iterator, seen = iter(loader), []
    for _ in range(len(batches)):
        try:
            seen.append(next(iterator)[1].tolist())
        except (TypeError, IndexError) as error:
            seen.append(type(error).__name__)
    assert seen == [[0, 1], "TypeError", "TypeError", [3, 4], "IndexError", [5]]
    with pytest.raises(StopIteration):
        next(iterator)


def test_an_iterator_that_waits_for_the_script_is_collected(photos):
    """Its thread waits for requests that will never come."""
    loader = DataLoader(_images(photos, PLAIN), 2, num_workers=1)
    others = set(threading.enumerate())
    iterator = iter(loader)
    next(iterator)
    own = [thread for thread in set(threading.enumerate()) - others if thread.name == "fastpipe-ahead"]
    assert len(own) == 1
    del iterator
    assert not own[0].is_alive()


def test_seeds_fit_an_int64():
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    reseed((1 << 64) - 1)
    assert torch.initial_seed() == (1 << 63) - 1
    random.setstate(before[0]), np.random.set_state(before[1]), torch.set_rng_state(before[2])


def test_initial_seed_in_a_worker_makes_a_tensor():
    class Seeds(torch.utils.data.Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            return torch.initial_seed()

    seeds = torch.cat(list(DataLoader(Seeds(), 4, seed=5, num_workers=1))).tolist()
    assert len(set(seeds)) == 16
    assert all(0 <= seed < 1 << 63 for seed in seeds)


class _Drawing(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(2), random.random()


def _seed_worker(worker_id):
    torch.manual_seed(7)
    random.seed(7)


def test_with_seed_the_seeds_of_worker_init_fn_are_overridden_and_it_is_said():
    options = dict(batch_size=4, seed=5, num_workers=1)
    own, without = (
        list(DataLoader(_Drawing(), **options, **more)) for more in ({"worker_init_fn": _seed_worker}, {})
    )
    for (ours, numbers), (expected, others) in zip(own, without, strict=True):
        assert torch.equal(ours, expected) and torch.equal(numbers, others)
    said = " ".join(DataLoader.__doc__.split())
    assert (
        "before each sample that the script's own code touches, which overrides what `worker_init_fn` seeded"
        in said
    )


def test_a_sampler_with_a_generator_of_its_own_is_drawn_as_by_torch(photos):
    orders = []
    for cls in (TorchLoader, DataLoader):
        dataset = _images(photos, PLAIN)
        dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
        sampler = RandomSampler(dataset, generator=torch.Generator().manual_seed(4))
        loader = cls(dataset, 5, sampler=sampler, num_workers=1)
        orders.append([[label for _, labels in loader for label in labels.tolist()] for _ in range(2)])
    assert orders[0] == orders[1]
