"""What a registered model runs on: the files of this package that its code imports, and the packages that these import."""

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, distributions, packages_distributions
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from modulefinder import Module, ModuleFinder
from pathlib import Path
from typing import Any

import plumage
from plumage.registry import served_model

PACKAGE = Path(plumage.__file__).parent


class _OwnModules(ModuleFinder):
    """Follows every import of a script's bytecode, late ones too, within this package. Others end up in `badmodules`."""

    def find_module(self, name: str, path: Any, parent: Module | None = None) -> Any:
        if path is None and name != PACKAGE.name:  # not in a package
            raise ImportError(name)
        return super().find_module(name, path, parent)


@cache
def _imports() -> ModuleFinder:
    finder = _OwnModules([str(PACKAGE.parent)])
    finder.run_script(served_model.__file__)
    return finder


def code_files() -> list[Path]:
    """The files of this package that the served model imports, and the C sources that these compile; sorted."""
    paths = {PACKAGE.parent / name.replace(".", "/") for name in _imports().modules if name != "__main__"}
    modules = {path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths}
    sources = {file for file in PACKAGE.rglob("*.[ch]") if file.suffix == ".h" or file.with_suffix(".py") in modules}
    return sorted(modules | sources)


def pinned_requirements() -> list[str]:
    """The packages that the served model imports, as `name==version`, sorted; without local versions such as `+cpu`.

    Optional packages that are not installed are left out.
    """
    imported = {name.partition(".")[0] for name in _imports().badmodules} - {PACKAGE.name, *sys.stdlib_module_names}
    names = {name for module in filter(find_spec, imported) for name in _packages_with(module)}
    return sorted(f"{name}=={installed_version(name).partition('+')[0]}" for name in names)


def _packages_with(module: str) -> list[str]:
    """The package of a module's name, or else those that have the module."""
    try:
        distribution(module)  # mlflow rather than mlflow-skinny, which has the module, too
    except PackageNotFoundError:
        listed = [each.name for each in distributions() if module in (each.read_text("top_level.txt") or "").split()]
        return listed or packages_distributions()[module]  # which looks for each file of each package: a second
    return [module]
