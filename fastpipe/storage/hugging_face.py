"""Image columns of Hugging Face `datasets`: the stored bytes, which that package would decode."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy.typing as npt
from torch.utils.data import Dataset

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError, SampleError
from fastpipe.storage.image import decode_rgb, read
from fastpipe.storage.leaf import Encoded, Leaf
from fastpipe.storage.lists.cells import LabelColumns, columns_of, read_labels
from fastpipe.storage.lists.labels import Labelling, are_numbers, label_at, labels_at
from fastpipe.storage.lists.listing import some
from fastpipe.storage.lists.table import Table, check_columns
from fastpipe.types import IntArray

__all__ = ["HuggingFaceDataset", "HuggingFaceLeaf", "from_hugging_face"]

_NAME = "the data set"


def from_hugging_face(
    dataset: Any,
    image: str | None = None,
    label: LabelColumns = "label",
    transform: Callable[[Any], Any] | None = None,
    target_transform: Callable[[Any], Any] | None = None,
) -> HuggingFaceDataset:
    """The images of one split of a Hugging Face data set, and its labels.

    image: the column with the images; None: the only one of type Image. label: as for `from_csv`: a column, a
    sequence or a dict of them, or None for batches `[images]`. A ClassLabel keeps its numbers and names; a
    sequence of ClassLabel becomes 0 or 1 for each class, float32 [K].
    Images are RGB as stored, without rotation by EXIF, as ImageFolder gives them; `datasets` itself rotates.
    The data set's own format and `set_transform` are not used. Raises ArgumentError and DataError.
    """
    return HuggingFaceDataset(dataset, image, label, transform, target_transform)


class HuggingFaceDataset(Dataset[tuple[Any, ...]]):
    """See `from_hugging_face`. The transform gets an RGB PIL image."""

    def __init__(
        self,
        dataset: Any,
        image: str | None = None,
        label: LabelColumns = "label",
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        _check_kind(dataset)
        self.image = _image_column(dataset, image)
        check_columns(_NAME, columns_of(label), dataset.column_names)
        if label is None and target_transform is not None:
            raise ArgumentError("target_transform must be None where there are no labels")
        self.fingerprint = str(dataset._fingerprint)
        self.label_values, names = _labels(dataset, label)
        self.rows = _stored(dataset, self.image)
        self.classes = list(names)
        self.class_to_idx = {name: number for number, name in enumerate(names)}
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        place = index + len(self) if index < 0 else index
        image: Any = decode_rgb(self.encoded(place), self.key(place))
        if self.transform is not None:
            image = self.transform(image)
        if self.label_values is None:
            return (image,)
        label = label_at(self.label_values, place)
        return image, label if self.target_transform is None else self.target_transform(label)

    def key(self, i: int) -> str:
        """What names image i for good: the fingerprint changes with every selection or other order."""
        return f"datasets-{self.fingerprint}#{i}"

    def encoded(self, i: int) -> bytes:
        """The bytes as they are stored, or those of the file that is named instead. Raises SampleError."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        found = self.rows[i].column(0)[0].as_py() or {}
        if found.get("bytes"):
            data: bytes = found["bytes"]
            return data
        if found.get("path"):
            return read(found["path"])
        key = self.key(i)
        raise SampleError(f"{key!r} has neither bytes nor a path in the column {self.image!r}", path=key)


def _check_kind(dataset: Any) -> None:
    """Raise ArgumentError for anything but a datasets.Dataset that has rows."""
    package = sys.modules.get("datasets")  # imported by whoever made the data set
    if package is not None and isinstance(dataset, package.DatasetDict):
        raise ArgumentError(
            f"dataset must be one split. Found: a DatasetDict; pass one of its "
            f"{', '.join(map(repr, dataset))}"
        )
    if package is None or not isinstance(dataset, package.Dataset):
        raise ArgumentError(
            f"dataset must be a datasets.Dataset, of the package datasets; streaming ones have no ids. "
            f"Found: {type(dataset).__name__}"
        )
    if not len(dataset):
        raise EmptyDatasetError("dataset must hold at least one image. Found: none")


def _image_column(dataset: Any, image: str | None) -> str:
    kind = sys.modules["datasets"].Image
    found = [name for name, feature in dataset.features.items() if isinstance(feature, kind)]
    if image is None and len(found) == 1:
        return str(found[0])
    if image is None or image not in found:
        listed = ", ".join(
            f"{name!r}: {type(feature).__name__}" for name, feature in dataset.features.items()
        )
        raise ArgumentError(
            f"image must name a column of type Image, or be None where there is one. Found: {image!r}. "
            f"The columns are {listed}. Files are cast with dataset.cast_column(NAME, datasets.Image())"
        )
    return image


def _stored(dataset: Any, image: str) -> Any:
    """The image column as Arrow rows of bytes and path; nothing is read."""
    undecoded = sys.modules["datasets"].Image(decode=False)
    return dataset.select_columns([image]).cast_column(image, undecoded).with_format("arrow")


def _labels(dataset: Any, label: LabelColumns) -> Labelling:
    """The labels of all rows; a ClassLabel has its own numbers, -1 for "not known" among them."""
    if label is None:
        return None, ()
    columns, feature, known = _columns(dataset, list(columns_of(label))), None, None
    if isinstance(label, str):
        feature = dataset.features[label]
        known = tuple(getattr(getattr(feature, "feature", feature), "names", None) or ()) or None
    of_one = known is not None and not hasattr(feature, "feature")
    if known is not None and not of_one and isinstance(label, str):
        columns[label] = _named(columns[label], known, label)
    table = Table(
        file=_NAME,
        names=dataset.column_names,
        columns=columns,
        numbers=range(1, len(dataset) + 1),
        typed=True,
        unit="row",
    )
    if of_one:
        numbers, _ = read_labels(table, label, kind="numbers", classes=None, separator=None)
        return numbers, known or ()
    return read_labels(table, label, kind=None, classes=known, separator=None)


def _named(rows: Sequence[Any], known: Sequence[str], label: str) -> list[list[str]]:
    """Lists of numbers as lists of names. DataError lists rows without a list or class."""
    wrong = [
        f"row {i}: {row!r}"
        for i, row in enumerate(rows, 1)
        if row is None or not all(number is not None and 0 <= number < len(known) for number in row)
    ]
    if wrong:
        raise DataError(
            f"the column {label!r} of {_NAME} must have lists of numbers in 0..{len(known) - 1}, which its "
            f"classes have. Found: {some(wrong)}"
        )
    return [[known[number] for number in row] for row in rows]


def _columns(dataset: Any, names: list[str]) -> dict[str, list[Any]]:
    whole = dataset.select_columns(names).with_format("arrow")[:]
    return {name: whole.column(name).to_pylist() for name in names}


class HuggingFaceLeaf(Leaf):
    """Bytes in the tables of `datasets`."""

    __slots__ = ()

    dataset: HuggingFaceDataset
    kind: ClassVar[str] = "hugging_face"
    words: ClassVar[tuple[str, str]] = ("a Hugging Face data set", "Hugging Face data sets")

    @property
    def root(self) -> str:
        """A name for its list of broken images; it changes with the order of the rows."""
        return f"datasets-{self.dataset.fingerprint}"

    @property
    def labelled(self) -> bool:
        """Whether a label column was named."""
        return self.dataset.label_values is not None

    @property
    def numbered(self) -> bool:
        """Whether labels are whole numbers."""
        return are_numbers(self.dataset.label_values)

    def key(self, i: int) -> str:
        """FINGERPRINT#i."""
        return self.dataset.key(i)

    def label(self, i: int) -> Any:
        """As in its column; None without one."""
        return label_at(self.dataset.label_values, i)

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """As in their column."""
        return labels_at(self.dataset.label_values, ids)

    def encoded(self, i: int) -> Encoded:
        """The stored bytes."""
        return self.dataset.encoded(i)
