"""The keys that `dvc exp run -S` has set are read from its command line."""

from plumage.common.set_params import set_keys


def test_every_way_to_set_a_parameter_is_understood() -> None:
    command = "dvc exp run -S train.lr=1 --set-param +train.lrr=a=b --set-param=params.yaml:data.seed=2 -S~train.l2"
    keys = [("train", "lr"), ("train", "lrr"), ("train", "l2"), ("data", "seed")]
    assert sorted(set_keys(command.split())) == sorted(keys)


def test_keys_of_other_files_and_other_options_are_not() -> None:
    assert list(set_keys(["dvc", "exp", "run", "-n", "train.lr=1", "-S", "other.yaml:train.lr=2", "train"])) == []
