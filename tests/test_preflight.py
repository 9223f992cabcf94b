"""What this machine lacks is found before any stage runs."""

import sys
from pathlib import Path

import pytest
import torch

from plumage.errors import ConfigError
from plumage.params import check_params
from plumage.preflight import check_feasible


def test_missing_weights_and_a_missing_device_are_both_named(tmp_path: Path) -> None:
    params = check_params({"model": {"weights": "none.pth"}, "train": {"device": f"cuda:{torch.cuda.device_count()}"}})
    with pytest.raises(ConfigError) as caught:
        check_feasible(params, tmp_path)
    device, weights = str(caught.value).splitlines()
    assert device.startswith("train.device: got cuda") and "none.pth is not a file; takes null, imagenet" in weights


def test_weights_of_another_architecture_are_found(tmp_path: Path) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"birds")
    with pytest.raises(ConfigError, match="model.weights: .*damaged.pth"):
        check_feasible(check_params({"model": {"weights": "damaged.pth"}}), tmp_path)
    check_feasible(check_params({}), tmp_path)


@pytest.mark.parametrize(("source", "package"), [("kaggle", "kagglehub"), ("huggingface", "huggingface_hub")])
def test_a_source_whose_package_is_missing_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, package: str
) -> None:
    params = check_params({"data": {"source": source}})
    check_feasible(params, tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        check_feasible(params, tmp_path)
    needs = f"data.source: {source} needs {package}, which is not installed; "
    assert str(caught.value) == f"{needs}install it: .venv/bin/pip install -c constraints.txt -e '.[{source}]'"
