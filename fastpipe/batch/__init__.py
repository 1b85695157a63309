"""Sampler order, batch requests, and the workers that fill one packed buffer per batch."""

from fastpipe.batch.ahead import Ahead as Ahead
from fastpipe.batch.drawing import Drawer as Drawer
from fastpipe.batch.drawing import read_one as read_one
from fastpipe.batch.drawing import read_positions as read_positions
from fastpipe.batch.drawing import read_samples as read_samples
from fastpipe.batch.order import DistributedSampler as DistributedSampler
from fastpipe.batch.order import SeededSampler as SeededSampler
from fastpipe.batch.pool import WorkerOptions as WorkerOptions
from fastpipe.batch.pool import WorkerPool as WorkerPool
from fastpipe.batch.requests import RequestStream as RequestStream
from fastpipe.batch.requests import current_rank as current_rank
from fastpipe.batch.samplers import DistributedEvalSampler as DistributedEvalSampler
from fastpipe.batch.samplers import PageLocalSampler as PageLocalSampler
from fastpipe.batch.samplers import RepeatAugSampler as RepeatAugSampler
from fastpipe.batch.worker import FolderWork as FolderWork
from fastpipe.batch.worker import KeyedWork as KeyedWork

__all__ = [
    "Ahead",
    "DistributedEvalSampler",
    "DistributedSampler",
    "Drawer",
    "FolderWork",
    "KeyedWork",
    "PageLocalSampler",
    "RepeatAugSampler",
    "RequestStream",
    "SeededSampler",
    "WorkerOptions",
    "WorkerPool",
    "current_rank",
    "read_one",
    "read_positions",
    "read_samples",
]
