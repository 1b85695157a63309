"""Stored bytes: image folders, `.beton` files, lists, arrays, the demo data, data sets by name."""

from torchvision.datasets import DatasetFolder, ImageFolder

from fastpipe.storage.arrays.dataset import ArrayDataset
from fastpipe.storage.arrays.leaf import ArrayLeaf
from fastpipe.storage.beton.dataset import BetonDataset
from fastpipe.storage.beton.file import Beton, is_beton
from fastpipe.storage.beton.leaf import BetonLeaf
from fastpipe.storage.beton.verify import Verdict, verify_beton
from fastpipe.storage.beton.writer import Written, write_beton
from fastpipe.storage.demo import DEMO_NOTE, demo_splits
from fastpipe.storage.folder import FolderDataset
from fastpipe.storage.folder_leaf import FolderLeaf
from fastpipe.storage.hugging_face import HuggingFaceDataset, HuggingFaceLeaf, from_hugging_face
from fastpipe.storage.index import IMG_EXTENSIONS, FolderIndex, open_index
from fastpipe.storage.leaf import (
    Encoded,
    Leaf,
    Located,
    adopted,
    class_names,
    leaf_of,
    open_images,
    register,
    words_for,
)
from fastpipe.storage.lists.dataset import ImageList
from fastpipe.storage.lists.from_csv import columns_in, from_csv, holds_lists, is_table
from fastpipe.storage.lists.leaf import ListLeaf
from fastpipe.storage.named import NAMED, named_splits
from fastpipe.storage.published.kinds import register_all
from fastpipe.storage.sizes import file_sizes, image_sizes
from fastpipe.storage.source import resolve
from fastpipe.storage.splits import Splits, find_splits

__all__ = [
    "DEMO_NOTE",
    "IMG_EXTENSIONS",
    "NAMED",
    "ArrayDataset",
    "Beton",
    "BetonDataset",
    "BetonLeaf",
    "Encoded",
    "FolderDataset",
    "FolderIndex",
    "FolderLeaf",
    "ImageList",
    "Leaf",
    "Located",
    "Splits",
    "Verdict",
    "Written",
    "adopted",
    "class_names",
    "columns_in",
    "demo_splits",
    "file_sizes",
    "find_splits",
    "from_csv",
    "from_hugging_face",
    "holds_lists",
    "image_sizes",
    "is_beton",
    "is_table",
    "leaf_of",
    "named_splits",
    "open_images",
    "open_index",
    "register",
    "resolve",
    "verify_beton",
    "words_for",
    "write_beton",
]

# Messages name kinds in this order. Who opens a path is asked from the last one on: a folder is the rest.
for _folder in (DatasetFolder, ImageFolder, FolderDataset):
    register(_folder, FolderLeaf)
register(BetonDataset, BetonLeaf)
register(ImageList, ListLeaf)
register(ArrayDataset, ArrayLeaf)
register(HuggingFaceDataset, HuggingFaceLeaf)
register_all()
