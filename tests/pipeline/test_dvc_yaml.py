"""dvc.yaml says what the stages really read: every module that a script imports, and the sections of its parameters."""

import ast
from pathlib import Path

import pytest
import yaml

from plumage.config import Params

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SECTIONS = {field.alias or name: name for name, field in Params.model_fields.items()}


def module_file(module: str) -> Path | None:
    """The repository's file of a module, if it is one of ours."""
    for folder in ("src", "pipeline"):
        base = ROOT / folder / module.replace(".", "/")
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def imported_modules(file: Path) -> set[str]:
    """The modules that a file imports anywhere, with the packages around them."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(module.split(".")[: end + 1]) for module in modules for end in range(module.count(".") + 1)}


def closure(file: Path) -> set[Path]:
    """The repository's files that `file` imports, directly or not, and itself."""
    seen, waiting = {file}, [file]
    while waiting:
        for module in imported_modules(waiting.pop()):
            found = module_file(module)
            if found and found not in seen:
                seen.add(found)
                waiting.append(found)
    return seen


def code_of(stage: str) -> set[str]:
    """The files of code that a stage runs: Python, and what lies beside it as package data."""
    files = closure(ROOT / f"pipeline/{stage}.py")
    beside = {data for file in files for data in file.parent.glob("*.*") if data.suffix in (".j2", ".c", ".h")}
    names = {(file.parent, file.stem) for file in files}
    files |= {data for data in beside if data.suffix == ".h" or (data.parent, data.stem.split(".")[0]) in names}
    return {file.relative_to(ROOT).as_posix() for file in files}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str) -> None:
    code = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "pipeline/"))]
    files = [
        file.relative_to(ROOT).as_posix()
        for dep in code
        for file in ([ROOT / dep] if (ROOT / dep).is_file() else (ROOT / dep).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts  # which .dvcignore names
    ]
    assert sorted(files) == sorted(code_of(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_exactly_the_parameters_that_it_reads(stage: str) -> None:
    tree = ast.parse((ROOT / f"pipeline/{stage}.py").read_text(encoding="utf-8"))
    read = {
        section
        for section, attribute in SECTIONS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        and node.value.id == "params" and node.attr == attribute
    }  # fmt: skip
    assert set(STAGES[stage]["params"]) == read


def test_the_closure_follows_indirect_and_late_imports() -> None:
    assert "src/plumage/data/sources/layout.py" in code_of("download")  # through sources/folder.py
    assert "src/plumage/config.py" in code_of("split")  # through _stage.py


def test_params_yaml_holds_every_key_so_that_any_can_be_set_for_an_experiment() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    known = {name: set(type(field.default).model_fields) for name, field in Params.model_fields.items()}
    assert {name: set(section) for name, section in params.items()} == {
        alias: known[name] for alias, name in SECTIONS.items()
    }
