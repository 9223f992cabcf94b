"""A parameter that is left out takes its default, a recipe's where there is one."""

from plumage.config import RECIPES, Params, ResolvedTrain, Train


def test_a_key_left_out_takes_the_recipes_default_and_a_given_one_wins() -> None:
    train = Train(recipe="finetune", lr=0.5).resolved()
    assert train.lr == 0.5
    assert train.epochs == RECIPES["finetune"]["epochs"]
    assert train.seed == 0


def test_finetune_fills_in_every_open_key_and_no_recipe_has_others() -> None:
    open_keys = {key for key, value in Train().model_dump().items() if value is None}
    assert set(RECIPES["finetune"]) == open_keys
    assert all(set(recipe) <= open_keys for recipe in RECIPES.values())
    assert ResolvedTrain.model_fields.keys() == Train.model_fields.keys()


def test_flat_names_every_parameter_and_shows_the_recipes_defaults() -> None:
    flat = Params().flat()
    assert flat["train.epochs"] == RECIPES["scratch"]["epochs"]
    assert flat["register.model_name"] == "bird-classifier"
    assert not any(key.startswith("register.") for key in Params().flat(but="register"))
