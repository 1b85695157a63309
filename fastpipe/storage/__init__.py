"""Stored bytes: image folders and their index, `.beton` files, the demo data, data sets by name."""

from fastpipe.storage.beton.dataset import BetonDataset
from fastpipe.storage.beton.file import Beton, is_beton
from fastpipe.storage.beton.verify import Verdict, verify_beton
from fastpipe.storage.beton.writer import Written, write_beton
from fastpipe.storage.demo import DEMO_NOTE, demo_splits
from fastpipe.storage.folder import FolderDataset
from fastpipe.storage.index import IMG_EXTENSIONS, FolderIndex, open_index
from fastpipe.storage.named import NAMED, named_splits
from fastpipe.storage.sizes import file_sizes, image_sizes
from fastpipe.storage.source import resolve
from fastpipe.storage.splits import Splits, find_splits

__all__ = [
    "DEMO_NOTE",
    "IMG_EXTENSIONS",
    "NAMED",
    "Beton",
    "BetonDataset",
    "FolderDataset",
    "FolderIndex",
    "Splits",
    "Verdict",
    "Written",
    "demo_splits",
    "file_sizes",
    "find_splits",
    "image_sizes",
    "is_beton",
    "named_splits",
    "open_index",
    "resolve",
    "verify_beton",
    "write_beton",
]
