"""Table 3: the same GPUs with other CPUs. Mild hardly notices, Hot does.

At scale imagenet each machine runs its own two arms (`--only mild-aws,hot-aws`), all into one folder.
"""

from __future__ import annotations

from fastpipe.train.studies.design import Arm, Comparison, Experiment, Loading

# Physical cores: sources in docs/profiling-literature.md; the text of the table gives none.
_MACHINES = {"oracle": ("Oracle BM.GPU4.8", 64.0), "aws": ("AWS p4d.24xlarge", 48.0)}
_WORK = {
    "mild": ("MosaicML Mild", Loading(size=176, backend="turbo")),
    "hot": ("MosaicML Hot", Loading(size=176, depth=1)),
}
_EPOCHS = 3  # the first one warms caches; the text gives no length


def _arm(recipe: str, machine: str) -> Arm:
    hardware, cores = _MACHINES[machine]
    row, work = _WORK[recipe]
    return Arm(
        name=f"{recipe}-{machine}",
        recipe=recipe,
        epochs=_EPOCHS,
        small=1,
        # Progressive resizing changes the rate from epoch to epoch; three epochs would show none of it.
        options={"progressive_resizing": "null"},
        row=row,
        hardware=hardware,
        loading=Loading(size=work.size, backend=work.backend, depth=work.depth, cores=cores),
    )


EXPERIMENT = Experiment(
    name="table3",
    title="The same GPUs with other CPUs",
    citation="Table 3",
    arms=[_arm(recipe, machine) for recipe in _WORK for machine in _MACHINES],
    comparisons=[
        Comparison(first=f"{recipe}-aws", second=f"{recipe}-oracle", metrics=("images_per_s",))
        for recipe in _WORK
    ],
    rates=("mild-oracle", "hot-oracle"),
    limits="Cores of both machines count as equal to each other, so the ratio of Hot is that of the core "
    "counts. Mild reads by our own decoder in place of FFCV, and its progressive resizing is left out.",
)
