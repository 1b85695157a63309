"""Which of torchvision's data sets has which leaf."""

from __future__ import annotations

from torchvision import datasets

from fastpipe.storage.leaf import Leaf, register
from fastpipe.storage.published.arrays import CifarLeaf, MnistLeaf, SemeionLeaf, SvhnLeaf
from fastpipe.storage.published.files import (
    Caltech101Leaf,
    Caltech256Leaf,
    PairsLeaf,
    PetLeaf,
    PlacesLeaf,
    TwoListsLeaf,
)

__all__ = ["register_all"]

# EuroSAT, Country211 and ImageNet are subclasses of ImageFolder, so FolderLeaf has them.
_KINDS: dict[type[Leaf], tuple[str, ...]] = {
    PairsLeaf: ("StanfordCars", "GTSRB", "RenderedSST2", "Imagenette"),
    TwoListsLeaf: ("Flowers102", "Food101", "DTD", "SUN397", "FGVCAircraft", "CLEVRClassification"),
    PetLeaf: ("OxfordIIITPet",),
    PlacesLeaf: ("Places365",),
    Caltech101Leaf: ("Caltech101",),
    Caltech256Leaf: ("Caltech256",),
    CifarLeaf: ("CIFAR10", "CIFAR100"),
    SvhnLeaf: ("SVHN", "STL10"),
    MnistLeaf: ("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "USPS"),
    SemeionLeaf: ("SEMEION",),
}


def register_all() -> None:
    """Register every leaf of this folder; an older torchvision lacks some of the data sets."""
    for leaf, names in _KINDS.items():
        for name in names:
            if hasattr(datasets, name):
                register(getattr(datasets, name), leaf)
