"""A group of a recipe given whole (a file, JSON, in a recipe file); its keys count as set by the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastpipe.errors import ArgumentError
from fastpipe.train.cli import main, parse
from fastpipe.train.config.fit import fit_to_data
from fastpipe.train.config.keys import config_to_dict, group_classes
from fastpipe.train.config.recipe import load_recipe

# Of every group one key with a value that no recipe has.
OTHER: dict[str, dict[str, Any]] = {
    "optimizer": {"lr": 0.5},
    "schedule": {"warmup_epochs": 1.5},
    "table": {"label": "age"},
    "loss": {"label_smoothing": 0.03},
    "randaugment": {"depth": 3},
    "ema": {"half_life_batches": 33},
    "progressive_resizing": {"initial_scale": 0.7},
    "sam": {"rho": 0.3},
    "stochastic_depth": {"drop_rate": 0.2},
}


def _values(*args: str) -> dict[str, Any]:
    return config_to_dict(parse(args).config)


def _given(form: str, name: str, values: dict[str, Any], folder: Path) -> list[str]:
    """The arguments that give `values` of a group in one of the forms."""
    if form == "JSON":
        return [f"--{name}", json.dumps(values)]
    if form == "JSON behind =":
        return [f"--{name.replace('_', '-')}={json.dumps(values)}"]
    lines = "".join(f"{key}: {value}\n" for key, value in values.items())
    texts = {
        "yaml": lines,
        "yml": lines,
        "json": json.dumps(values),
        "nested.yaml": f"{name}:\n" + "".join(f"  {line}\n" for line in lines.splitlines()),
        "without_ending": lines,
    }
    path = folder / ("group" if form == "without_ending" else f"group.{form}")
    path.write_text(texts[form])
    return [f"--{name}", str(path)]


FORMS = ("JSON", "JSON behind =", "yaml", "yml", "json", "nested.yaml", "without_ending")


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *((form, "optimizer") for form in FORMS),
        *((form, "ema") for form in FORMS),
        *(("yaml", n) for n in OTHER),
    ],
)
def test_every_group_in_every_form_is_its_single_keys(form: str, name: str, tmp_path: Path) -> None:
    ((key, value),) = OTHER[name].items()
    whole = parse(_given(form, name, OTHER[name], tmp_path))
    single = parse([f"--{name}.{key}", str(value)])
    assert whole == single  # the configuration, and what counts as set by the user
    assert f"{name}.{key}" in whole.explicit
    assert config_to_dict(whole.config)[name][key] == value


def test_the_table_above_has_every_group() -> None:
    assert set(OTHER) == set(group_classes())


def test_fitting_to_the_data_leaves_a_groups_values_alone(tmp_path: Path) -> None:
    (tmp_path / "opt.yaml").write_text("lr: 0.5\n")
    (tmp_path / "schedule.json").write_text('{"warmup_epochs": 3}')
    files = ("--optimizer", str(tmp_path / "opt.yaml"), "--schedule", str(tmp_path / "schedule.json"))
    told = parse([*files, "--ema", '{"half_life_batches": 90, "update_interval": 9}', "--epochs", "10"])
    fitted = fit_to_data(
        told.config, 3000, explicit=told.explicit, recipe_batch_size=told.recipe_batch_size
    ).config
    assert fitted.batch_size == 64  # it was fitted
    assert (fitted.optimizer.lr, fitted.schedule.warmup_epochs) == (0.5, 3.0)
    assert fitted.ema is not None
    assert (fitted.ema.half_life_batches, fitted.ema.update_interval) == (90, 9)


def test_keys_that_are_not_named_keep_the_recipes_values() -> None:
    mild = config_to_dict(load_recipe("mild"))
    told = _values("--optimizer", '{"lr": 0.5}', "--ema", '{"update_interval": 5}')
    assert told["optimizer"] == {**mild["optimizer"], "lr": 0.5}
    assert told["ema"] == {**mild["ema"], "update_interval": 5}
    assert _values("--recipe", "timm_a1", "--ema", "{}")["ema"]["half_life_batches"] == 100  # off there


def test_the_last_one_counts(tmp_path: Path) -> None:
    (tmp_path / "opt.yaml").write_text("lr: 0.5\nmomentum: 0.8\n")
    file = ("--optimizer", str(tmp_path / "opt.yaml"))
    assert _values(*file, "--optimizer.lr", "0.1")["optimizer"]["lr"] == 0.1
    assert _values("--optimizer.lr", "0.1", *file)["optimizer"]["lr"] == 0.5
    both = _values(*file, "--optimizer", '{"lr": 0.2}')["optimizer"]
    assert (both["lr"], both["momentum"]) == (0.2, 0.8)
    assert _values("--ema", "null", "--ema.update-interval", "3")["ema"]["update_interval"] == 3
    assert _values("--ema", '{"update_interval": 3}', "--ema", "null")["ema"] is None


def test_types_are_those_of_single_keys() -> None:
    values = '{"lr": "5e-1", "name": "lamb", "decoupled_weight_decay": false}'  # YAML 1.1 reads 5e-1 as text
    told = _values("--optimizer", values)["optimizer"]
    assert (told["lr"], told["name"], told["decoupled_weight_decay"]) == (0.5, "lamb", False)
    timm = _values("--randaugment", '{"space": "timm", "magnitude": 9, "mmax": null}')["randaugment"]
    assert (timm["space"], timm["magnitude"], timm["mmax"]) == ("timm", 9.0, None)
    assert _values("--sam", "{}")["sam"] == {"rho": 0.5, "interval": 1}


def test_a_recipe_file_may_name_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "opt.yaml").write_text("lr: 0.5\n")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 4\noptimizer: parts/opt.yaml\nema: '{\"update_interval\": 4}'\nsam: null\n")
    monkeypatch.chdir("/")
    told = parse(["--recipe", str(recipe), "--optimizer.momentum", "0.7"])
    assert (told.config.epochs, told.config.recipe) == (4, "mine")
    assert (told.config.optimizer.lr, told.config.optimizer.momentum) == (0.5, 0.7)
    assert told.config.ema is not None and told.config.ema.update_interval == 4
    # A recipe's own values are made for its batch, and are fitted to the data as those of any recipe.
    assert told.explicit == {"recipe", "optimizer.momentum"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--optimizer", '{"lrr": 1}'), "unknown key 'optimizer.lrr' in --optimizer. Did you mean"),
        (
            ("--optimizer", "absent.yaml"),
            "--optimizer must name a file that can be read. Found: 'absent.yaml'",
        ),
        (("--optimizer", "lamb"), "--optimizer must be a .yaml or .json file with its keys (name, lr, "),
        (("--optimizer", "null"), "single keys such as --optimizer.name. Found: 'null'"),
        (("--ema", "[1, 2]"), "null to switch it off"),
        (("--ema", ""), "--ema must not be empty"),
        (("--ema",), "Found: nothing"),
        (("--ema", "--epochs", "3"), "Found: nothing"),
        (("--ema", '{"half_life_batches": "many"}'), "half_life_batches"),
        (("--optimizer", '{"lr": {"peak": 1}}'), "lr"),
        (("--optimizer", '{"lr": 1'), "neither YAML nor JSON"),
    ],
)
def test_mistakes_are_named(args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*args, "--print-config"]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.out == "" and "__path__" not in shown.err


def test_files_that_are_no_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optimizer: absent.yaml\n")
    with pytest.raises(ArgumentError, match=r"--optimizer must name a file.*absent\.yaml"):
        load_recipe(str(path))
    for content, message in ((b"a: [1", "neither YAML nor JSON"), (b"\xff\xfe\x00", "--recipe must name")):
        path.write_bytes(content)
        assert main(["--recipe", str(path), "--print-config"]) == 2
        assert message in capsys.readouterr().err
