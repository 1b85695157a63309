"""A notebook: classes of its cells in worker processes, an interrupted epoch, a loader that is made twice."""

from __future__ import annotations

import nbformat
from harness import photos, quietly, tried
from nbclient import NotebookClient

CELLS = (
    """
import fastpipe, torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
class Jitter(torch.nn.Module):
    def forward(self, image): return image.rotate(5 * float(torch.rand(())))
tail = [transforms.RandomResizedCrop(32), transforms.ToTensor()]
dataset = ImageFolder({root!r}, transforms.Compose([Jitter(), *tail]))
""",
    """
loader = fastpipe.DataLoader(dataset, 8, shuffle=True, num_workers=2)
print(len(list(loader)))
""",
    """
for number, batch in enumerate(loader):
    if number == 1: break
dataset = ImageFolder({root!r}, transforms.Compose(tail))
loader = fastpipe.DataLoader(dataset, 8, shuffle=True, num_workers=2, seed=1)
iterator = iter(loader)
print(type(iterator).__name__, loader.explain().lifted, len(list(iterator)))
""",
)


def run() -> str:
    book = nbformat.v4.new_notebook()
    root = str(photos() / "train")
    book.cells = [nbformat.v4.new_code_cell(cell.replace("{root!r}", repr(root))) for cell in CELLS]
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    return "".join(one.get("text", "") for cell in book.cells for one in cell.outputs)


if __name__ == "__main__":
    quietly()
    with tried("classes of a cell in two workers, a `break`, a new loader") as row:
        told = run().split()
        assert told == ["5", "EpochIterator", "True", "5"], told
        row.fast = "yes (EpochIterator of DataLoader)"
