"""docs/methods: every key of a method has a card, and what a card names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastpipe.train.config.keys import config_to_dict, flat_keys
from fastpipe.train.config.parser import recipe_names
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
CARDS = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md") if path.stem != "README"}
PARTS = ("Source", "Knobs", "No effect", "Cost")
# What is trained, on what, for how long and where the files go: no method.
OF_THE_RUN = {
    "recipe",
    "data",
    "model",
    "epochs",
    "batch_size",
    "seed",
    "backend",
    "num_workers",
    "output_dir",
}
OF_THE_RUN |= {"fit_to_data", "checkpoint_interval", "skip_nonfinite", "validate_raw"}
OF_THE_RUN |= {"held_out", "on_error", "max_bad", "task", "metric", "best_metric", "early_stopping"}
OF_THE_RUN |= {"table", *(f"table.{column}" for column in ("path", "label", "split", "separator"))}
OF_THE_RUN |= {"pretrained", "init_from"}


def part(text: str, name: str) -> str:
    found = re.search(rf"^- \*\*{name}:\*\* (.*?)(?=^- \*\*|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None and found[1].strip(), name
    return found[1]


def knobs(text: str) -> set[str]:
    """The keys in code marks of a card's knobs; `key: null` counts as its key."""
    return {re.split(r"[:\s]", mark)[0] for mark in re.findall(r"`([^`]+)`", part(text, "Knobs"))}


def groups() -> set[str]:
    return {key.rpartition(".")[0] for key in flat_keys() if "." in key}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_whole_and_its_knobs_exist(name: str) -> None:
    for heading in PARTS:
        part(CARDS[name], heading)
    assert knobs(CARDS[name]) - set(flat_keys(TrainConfig)) == set()


def test_every_key_of_a_method_has_a_card() -> None:
    documented = set().union(*map(knobs, CARDS.values()))
    leaves = set(flat_keys()) - groups()
    assert leaves - OF_THE_RUN - documented == set()
    assert not OF_THE_RUN & documented and set(flat_keys()) >= OF_THE_RUN


@pytest.mark.parametrize("recipe", recipe_names())
def test_what_a_recipe_switches_on_has_a_card(recipe: str) -> None:
    documented = {knob.split(".")[0] for knob in set().union(*map(knobs, CARDS.values()))}
    values = config_to_dict(load_recipe(recipe))
    on = {key for key, value in values.items() if value not in (None, False, 0.0)}
    assert on - OF_THE_RUN - documented == set()


def test_the_index_lists_every_card_once() -> None:
    listed = re.findall(r"\]\((\w+)\.md\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(CARDS)


def test_every_file_of_a_method_has_a_card() -> None:
    """The code's names may differ where one card covers two files."""
    shared = {"ramp_resizing": "progressive_resizing", "decoupled_sgd": "sgd"}
    files = {path.stem for path in (FOLDER.parents[1] / "train" / "algorithms").glob("*.py")} - {"__init__"}
    assert {shared.get(name, name) for name in files} - set(CARDS) == set()
