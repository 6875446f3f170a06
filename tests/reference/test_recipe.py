"""Recipes: read as written, wrong keys and values named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="recipes hold the settings of PyTorch's augmentation")

from reference.networks.build import build_extractor
from reference.recipe import RecipeError, from_values, read_recipe, to_values

RECIPES = Path(__file__).resolve().parents[2] / "reference" / "recipes"


@pytest.fixture
def write_recipe(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_there_are_bundled_recipes():
    assert RECIPES / "fast.toml" in RECIPES.glob("*.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_bundled_recipes_can_be_used(path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert build_extractor(recipe.network, 10) is not None


def test_settings_are_read(write_recipe, small_recipe_text):
    recipe = read_recipe(write_recipe(small_recipe_text))
    assert recipe.name == "mine"
    assert recipe.shape_model.components == 4
    assert recipe.shape_model.variance_kept is None
    assert recipe.network.blocks[2] == {"type": "inverted", "channels": 16, "hidden": 32}
    assert recipe.training.learning_rate == 4e-3
    assert isinstance(recipe.training.warm_up_epochs, float)
    assert recipe.augmentation.turn_std_deg == 10
    assert recipe.augmentation.blur_share == 0


def test_a_recipe_can_say_what_it_has_otherwise(write_recipe, small_recipe_text):
    base = read_recipe(write_recipe(small_recipe_text))
    path = write_recipe(small_recipe_text).with_name("other.toml")
    path.write_text('base = "mine.toml"\n[training]\nepochs = 9\n[network]\nblocks = []\n')
    other = read_recipe(path)
    assert other.name == "other"
    assert other.training == dataclasses.replace(base.training, epochs=9)
    assert other.network == dataclasses.replace(base.network, blocks=())
    assert (other.shape_model, other.augmentation) == (base.shape_model, base.augmentation)
    path.write_text('base = "none.toml"')
    with pytest.raises(RecipeError, match=r"none\.toml: not a recipe"):
        read_recipe(path)


def test_plain_values_give_the_same_recipe(write_recipe, small_recipe_text):
    recipe = read_recipe(write_recipe(small_recipe_text))
    assert from_values(to_values(recipe)) == recipe
    variance = read_recipe(write_recipe("[shape_model]\nvariance_kept = 0.98"))
    assert from_values(to_values(variance)) == variance


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trainning]\nepochs = 3", "trainning"),
        ("[training]\nepoch = 3", r"\[training\] has .*epochs.*, not epoch"),
        ("[network]\nsidepx = 3\nfoo = 1", "not foo, sidepx"),
        ("training = 5", r"\[training\] must be a table"),
        ("[training]\nepochs = 'many'", "epochs must be of type int, not 'many'"),
        ("[training]\nepochs = 1.5", "epochs must be of type int, not 1.5"),
        ("[training]\nepochs = true", "epochs must be of type int, not True"),
        ("[training]\nepochs = 0", "epochs must be a number from 1 on, not 0"),
        ("[training]\nbatch_size = 0", "batch_size"),
        ("[training]\nvalidate_every_epochs = 0", "validate_every_epochs"),
        ("[training]\nseed = -1", "seed must be a number from 0 on"),
        ("[training]\nlearning_rate = true", "learning_rate must be of type float"),
        ("[training]\nlearning_rate = nan", "learning_rate must be a number"),
        ("[training]\nlearning_rate = inf", "learning_rate must be a number"),
        ("[training]\nlearning_rate = -0.1", "learning_rate must be a number from 0 on"),
        ("[augmentation]\nblur_share = 1.5", "blur_share is a probability"),
        ("[augmentation]\nnoise_std = '0.1'", "noise_std must be of type float"),
        ("[network]\nactivation = 3", "activation must be of type str"),
        ("[network]\nblocks = 'many'", "blocks must be a list of tables"),
        ("[network]\nblocks = ['convolution']", "blocks must be a list of tables"),
        ("not toml", "not a recipe in TOML"),
        ("a = [", "not a recipe in TOML"),
    ],
)
def test_wrong_recipes_are_refused_with_file_and_key(write_recipe, text, message):
    path = write_recipe(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    for name in ("none.toml", "latin.toml", "."):
        with pytest.raises(RecipeError, match="not a recipe"):
            read_recipe(tmp_path / name)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"extractor": "resnet"}, "compact, maps or original, not 'resnet'"),
        ({"extractor": "original", "side_px": 112}, "side_px = 224"),
        ({"extractor": "original", "side_px": 224, "norm": "layer"}, "not 'layer'"),
        ({"activation": "gelu"}, "not 'gelu'"),
        ({"blocks": [{"type": "pool", "channels": 16}]}, "linear_separable, inverted, not 'pool'"),
        ({"blocks": [{"type": "convolution"}]}, "type and channels"),
        ({"blocks": [{"type": "convolution", "channels": 16, "size": 3}]}, "not size"),
        ({"blocks": [{"type": "convolution", "channels": "16"}]}, "channels must be a whole"),
        ({"blocks": [{"type": "convolution", "channels": 0}]}, "channels must be a whole"),
        ({"blocks": [{"type": "convolution", "channels": 16, "stride": 1.5}]}, "stride must be"),
        ({"blocks": [{"type": "convolution", "channels": 16, "kernel": 4}]}, "must be odd"),
        ({"blocks": [{"type": "inverted", "channels": 16}]}, "hidden is for"),
        ({"blocks": [{"type": "separable", "channels": 16, "hidden": 8}]}, "hidden is for"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(network, message):
    recipe = from_values({"name": "a", "network": network})
    with pytest.raises(RecipeError, match=message):
        build_extractor(recipe.network, 10)
