"""A missing parameter takes its default, or its recipe's."""

from plumage.config import RECIPES, Params, ResolvedTrain, Train


def test_a_missing_key_takes_the_recipes_default_and_a_given_one_wins() -> None:
    train = Train(recipe="finetune", lr=0.5).resolved()
    assert train.lr == 0.5
    assert train.epochs == RECIPES["finetune"]["epochs"]
    assert train.seed == 0


def test_finetune_has_a_default_for_every_null_and_no_recipe_has_other_keys() -> None:
    null_keys = {key for key, value in Train().model_dump().items() if value is None}
    assert set(RECIPES["finetune"]) == null_keys
    assert all(set(recipe) <= null_keys for recipe in RECIPES.values())
    assert ResolvedTrain.model_fields.keys() == Train.model_fields.keys()


def test_flat_has_every_parameter_with_the_recipes_defaults() -> None:
    flat = Params().flat()
    assert flat["train.epochs"] == RECIPES["scratch"]["epochs"]
    assert flat["register.model_name"] == "bird-classifier"
    assert not any(key.startswith("register.") for key in Params().flat("register"))
