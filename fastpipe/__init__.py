"""fastpipe: feeds GPUs that train image classifiers."""

import fastpipe.system.early as _early  # noqa: F401 - first import: it handles signals
from fastpipe.batch import DistributedEvalSampler as DistributedEvalSampler
from fastpipe.batch import DistributedSampler as DistributedSampler
from fastpipe.batch import PageLocalSampler as PageLocalSampler
from fastpipe.batch import RepeatAugSampler as RepeatAugSampler
from fastpipe.errors import ArgumentError as ArgumentError
from fastpipe.errors import BackendError as BackendError
from fastpipe.errors import DataError as DataError
from fastpipe.errors import DefaultDeviceError as DefaultDeviceError
from fastpipe.errors import EmptyDatasetError as EmptyDatasetError
from fastpipe.errors import FastpipeError as FastpipeError
from fastpipe.errors import LiftError as LiftError
from fastpipe.errors import LiftWarning as LiftWarning
from fastpipe.errors import MissingExtraError as MissingExtraError
from fastpipe.errors import NameClashError as NameClashError
from fastpipe.errors import SampleError as SampleError
from fastpipe.errors import StateError as StateError
from fastpipe.installed import VERSION as __version__
from fastpipe.loader import DataLoader as DataLoader
from fastpipe.storage import ArrayDataset as ArrayDataset
from fastpipe.storage import FolderDataset as FolderDataset
from fastpipe.storage import ImageList as ImageList
from fastpipe.storage import from_csv as from_csv
from fastpipe.storage import from_hugging_face as from_hugging_face
from fastpipe.transforms import specs as augment

__all__ = [
    "ArgumentError",
    "ArrayDataset",
    "BackendError",
    "DataError",
    "DataLoader",
    "DefaultDeviceError",
    "DistributedEvalSampler",
    "DistributedSampler",
    "EmptyDatasetError",
    "FastpipeError",
    "FolderDataset",
    "ImageList",
    "LiftError",
    "LiftWarning",
    "MissingExtraError",
    "NameClashError",
    "PageLocalSampler",
    "RepeatAugSampler",
    "SampleError",
    "StateError",
    "__version__",
    "augment",
    "from_csv",
    "from_hugging_face",
]
