"""A registered model's requirements are what its code imports."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from plumage.registry import served_code
from plumage.registry.served_code import code_files, pinned_requirements


def test_what_only_training_needs_is_not_required() -> None:
    names = {line.partition("==")[0] for line in pinned_requirements()}
    assert {"mlflow", "onnx", "onnxruntime", "pillow", "simplejpeg"} <= names
    assert not names & {"dvc", "matplotlib", "mlflow-skinny", "plumage", "scikit-learn", "torch", "typer"}


@pytest.mark.parametrize(
    ("installed", "pinned"),
    [("1.32.0", "1.32.0"), ("1.32.0+cu130", "1.32.0"), ("1.32.0a1.dev3+git1a2b", "1.32.0a1.dev3")],
)
def test_pins_have_no_local_version(monkeypatch: pytest.MonkeyPatch, installed: str, pinned: str) -> None:
    monkeypatch.setattr(served_code, "installed_version", lambda name: installed)
    assert f"onnxruntime=={pinned}" in pinned_requirements()


def test_an_optional_package_that_is_not_installed_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], object] = served_code.find_spec
    monkeypatch.setattr(served_code, "find_spec", lambda name: None if name == "simplejpeg" else find(name))
    assert not [line for line in pinned_requirements() if line.startswith("simplejpeg")]


def test_a_package_of_another_name_is_found_without_a_look_at_every_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_code, "packages_distributions", lambda: pytest.fail("which takes a second"))
    assert "pillow" in {line.partition("==")[0] for line in pinned_requirements()}


def test_a_package_of_another_name_is_found_without_a_list_of_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pinned_requirements()
    monkeypatch.setattr(served_code, "distributions", lambda: [])
    assert pinned_requirements() == before


def test_a_part_of_a_package_stands_for_it_where_it_alone_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_mlflow(name: str) -> object:
        if name == "mlflow":
            raise PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(served_code, "distribution", without_mlflow)
    assert {"mlflow-skinny"} <= {line.partition("==")[0] for line in pinned_requirements()}


def test_c_sources_go_with_the_modules_that_compile_them() -> None:
    names = {file.name for file in code_files()}
    assert {"common.h", "photos.c"} <= names and "training.c" not in names
