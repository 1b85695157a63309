"""Lightning rebuilds loaders and saves them in mid-epoch: what goes on, and what is said."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data
from torch.utils.data import RandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import augment

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

TAIL = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *TAIL])
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])
TorchLoader: Any = torch.utils.data.DataLoader


class Jitter(torch.nn.Module):
    """An augmentation of the script's own, behind the crop, so that nothing is lifted."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 0.01 * torch.rand(())


class Lit(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3)
        )
        self.seen: list[list[Any]] = []

    def training_step(self, batch: Any, _: int) -> Any:
        self.seen.append(batch[1].tolist())
        return torch.nn.functional.cross_entropy(
            self.body(batch[0]), batch[1] % 3 if batch[1].ndim == 1 else batch[1]
        )

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*(num_workers|log_every_n_steps|isinstance|LeafSpec).*")
        yield


def trainer(**more: Any) -> Any:
    asked: dict[str, Any] = dict(
        accelerator="cpu", devices=1, logger=False, max_epochs=1, enable_checkpointing=False
    )
    asked |= dict(enable_progress_bar=False, enable_model_summary=False)
    return lightning.Trainer(**{**asked, **more})


def ids_as_labels(photos: Path, transform: Any) -> ImageFolder:
    dataset = ImageFolder(str(photos), transform)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
    return dataset


def fitted(loader: Any, **more: Any) -> list[list[Any]]:
    model = Lit()
    resume = more.pop("ckpt_path", None)
    trainer(**more).fit(model, loader, **({"ckpt_path": resume, "weights_only": False} if resume else {}))
    return model.seen


def saved(loader: Any, place: Path) -> list[list[Any]]:
    """What a whole epoch sees, which saves after every second batch."""
    saves = ModelCheckpoint(str(place), filename="{step}", every_n_train_steps=2, save_top_k=-1)
    return fitted(loader, enable_checkpointing=True, callbacks=[saves])


def resumed(loader: Any, place: Path) -> list[list[Any]]:
    return fitted(loader, ckpt_path=str(place / "step=2.ckpt"))


def test_fit_sees_what_the_loader_gives_and_rebuilt_it_is_the_same(photos: Path) -> None:
    asked: dict[str, Any] = dict(augment=[augment.MixUp(0.2)], num_classes=3, seed=1, resolution=40)
    dataset = ImageFolder(str(photos), TRAIN)
    alone = fastpipe.DataLoader(dataset, 8, shuffle=True, **asked)
    expected = [labels.tolist() for _, labels in alone]
    assert fitted(fastpipe.DataLoader(dataset, 8, shuffle=True, **asked)) == expected
    overfit = fastpipe.DataLoader(dataset, 8, shuffle=True, **asked)
    assert len(fitted(overfit, overfit_batches=2)) == 2


def test_a_seeded_loader_goes_on_with_the_next_batch(photos: Path, tmp_path: Path) -> None:
    def made() -> Any:
        return fastpipe.DataLoader(ids_as_labels(photos, TRAIN), 4, shuffle=True, seed=3)

    whole = [labels.tolist() for _, labels in made()]
    assert saved(made(), tmp_path) == whole
    assert resumed(made(), tmp_path) == whole[2:]


@pytest.mark.parametrize("change", ["none", "unlifted", "batch size", "own sampler"])
def test_what_cannot_be_resumed_exactly_goes_on_as_torchs(photos: Path, tmp_path: Path, change: str) -> None:
    """As many batches as with torch's loader, and never an error, with one warning at most."""

    def run(kind: Any) -> int:
        place = tmp_path / kind.__module__
        transform = transforms.Compose([*TRAIN.transforms, Jitter()]) if change == "unlifted" else EVAL
        dataset = ids_as_labels(photos, transform)
        order: dict[str, Any] = (
            dict(sampler=RandomSampler(dataset)) if change == "own sampler" else dict(shuffle=True)
        )
        saved(kind(dataset, 4, **order), place)
        return len(resumed(kind(dataset, 8 if change == "batch size" else 4, **order), place))

    theirs = run(TorchLoader)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ours = run(fastpipe.DataLoader)
    assert ours == theirs
    assert sum("fastpipe" in str(one.filename) or "resum" in str(one.message) for one in told) <= 3
