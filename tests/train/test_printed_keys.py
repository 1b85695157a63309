"""The keys that a printed configuration promises, by name."""

from __future__ import annotations

import pytest
import yaml

from fastpipe.train.cli import main
from fastpipe.train.config.parser import recipe_names

KEYS = {
    "": "epochs batch_size train_resolution val_resolution val_resize precision channels_last seed "
    "mixup_alpha cutmix_alpha mixup_switch_prob grad_clip randaugment colout random_erasing "
    "repeated_augmentation blurpool ema progressive_resizing sam stochastic_depth tta backend",
    "optimizer": "name lr momentum weight_decay decoupled_weight_decay weight_decay_on_norm",
    "schedule": "name warmup_epochs resolution min_lr",
    "loss": "name bias_init label_smoothing",
    "randaugment": "space depth severity",
    "ema": "half_life_batches update_interval reset_during_warmup",
    "progressive_resizing": "kind where initial_scale delay_fraction finetune_fraction size_increment "
    "start_epoch end_epoch",
    "sam": "rho interval",
    "stochastic_depth": "drop_rate",
}
OPTIONAL = ("randaugment", "ema", "progressive_resizing", "sam", "stochastic_depth")


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_printed_recipe_has_every_promised_key(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", recipe, "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for group, names in KEYS.items():
        values = printed[group] if group else printed
        # A method that is off is null as a whole.
        assert values is None or set(names.split()) - set(values) == set(), group
        assert values is not None or group in (
            "randaugment",
            "ema",
            "progressive_resizing",
            "sam",
            "stochastic_depth",
        )


def test_hot_has_them_all_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "hot", "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert all(printed[group] is not None for group in KEYS if group)
