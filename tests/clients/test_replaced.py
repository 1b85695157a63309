"""Our class in the place of torch's: for types, for subclasses, and in a whole process."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data
from torch.utils.data import TensorDataset

import fastpipe

NUMBERS = TensorDataset(torch.arange(8.0))


class Typed(fastpipe.DataLoader[torch.Tensor]):
    pass


class Counted(fastpipe.DataLoader[list[torch.Tensor]]):
    def __init__(self, *positional: Any, **arguments: Any) -> None:
        super().__init__(*positional, **arguments)
        self.started = 0

    def __iter__(self) -> Any:
        self.started += 1
        return super().__iter__()


def total(loader: fastpipe.DataLoader[list[torch.Tensor]]) -> float:
    return float(sum(batch[0].sum() for batch in loader))


def test_the_class_is_generic_as_torchs_is() -> None:
    assert typing.get_origin(fastpipe.DataLoader[torch.Tensor]) is fastpipe.DataLoader
    assert len(fastpipe.DataLoader.__parameters__) == len(torch.utils.data.DataLoader.__parameters__) == 1
    assert typing.get_type_hints(total)["loader"] == fastpipe.DataLoader[list[torch.Tensor]]


@pytest.mark.parametrize("kind", [Typed, Counted, fastpipe.DataLoader[torch.Tensor]])
def test_subclasses_and_aliases_make_loaders(kind: Any) -> None:
    loader = kind(NUMBERS, 4, shuffle=True, seed=1)
    assert isinstance(loader, fastpipe.DataLoader | torch.utils.data.DataLoader)
    assert total(loader) == 28.0 and len(loader) == 2


PROGRAM = """
import torch, torch.utils.data, fastpipe
torch.utils.data.DataLoader = fastpipe.DataLoader
torch.utils.data.dataloader.DataLoader = fastpipe.DataLoader
class Typed(torch.utils.data.DataLoader[torch.Tensor]): pass
from torch.utils.data import TensorDataset
numbers = TensorDataset(torch.arange(20.0).reshape(20, 1))
assert len(list(Typed(numbers, 4, num_workers=2))) == 5
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
for config in ({}, {"dispatch_batches": True}):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))
    made = accelerator.prepare(torch.utils.data.DataLoader(numbers, 4, shuffle=True))
    assert isinstance(made, fastpipe.DataLoader)
    assert len(list(made)) == 5 and len(list(skip_first_batches(made, 2))) == 3
"""


def test_accelerate_runs_where_torchs_name_is_ours(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
