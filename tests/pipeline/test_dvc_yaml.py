"""dvc.yaml lists what each stage reads: the code that it imports and its sections of params.yaml."""

import ast
import difflib
import re
import subprocess
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import modify_yaml

from plumage.config import Params

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SECTIONS = {field.alias or name: name for name, field in Params.model_fields.items()}
EXPENSIVE = ("train", "folds")
CODE = ("pipeline", "src/plumage")
PLOT_DATA = {"reports/plot_data/confusion.csv", "reports/plot_data/reliability.csv"}


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
    """The code files that a stage runs: Python, and the package data (templates, C) of the same name beside it."""
    files = closure(ROOT / f"pipeline/{stage}.py")
    beside = {data for file in files for data in file.parent.glob("*.*") if data.suffix in (".j2", ".c", ".h")}
    names = {(file.parent, file.stem) for file in files}
    files |= {data for data in beside if data.suffix == ".h" or (data.parent, data.stem.split(".")[0]) in names}
    return {file.relative_to(ROOT).as_posix() for file in files}


def files_under(path: str) -> set[str]:
    """The code files of a dependency in dvc.yaml, which is a file or a folder. .dvcignore leaves out `__pycache__`."""
    found = [ROOT / path] if (ROOT / path).is_file() else (ROOT / path).rglob("*")
    return {file.relative_to(ROOT).as_posix() for file in found if file.is_file() and "__pycache__" not in file.parts}


def fewest_paths(files: set[str]) -> set[str]:
    """The same files, with a folder in place of its files where all of them are listed."""
    folders = {parent.as_posix() for file in files for parent in Path(file).parents}
    whole = {folder for folder in folders if folder.startswith(CODE) and files_under(folder) <= files}
    return {path for path in files | whole if not any(parent.as_posix() in whole for parent in Path(path).parents)}


def layers() -> set[str]:
    """The folders of the import layers in pyproject.toml; of nested layers, the inner ones."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {
        f"src/{container}/{layer.strip()}".replace(".", "/")
        for contract in pyproject["tool"]["importlinter"]["contracts"]
        for container in contract.get("containers", [])
        for line in contract["layers"]
        for layer in line.split("|")
    }
    return {
        folder for folder in folders
        if (ROOT / folder).is_dir() and not any(other.startswith(f"{folder}/") for other in folders)
    }  # fmt: skip


def layers_of(files: set[str]) -> set[str]:
    """The layers that contain the files, and the files that are in none."""
    return {next((layer for layer in layers() if file.startswith(f"{layer}/")), file) for file in files}


def named_code(stage: str) -> set[str]:
    """The files and folders of code among a stage's dependencies in dvc.yaml."""
    return {dep for dep in STAGES[stage]["deps"] if dep.startswith(CODE)}


def advice(stage: str, paths: set[str]) -> str:
    """The dependencies to paste into dvc.yaml."""
    data = [f'"{dep}"' if "$" in dep else dep for dep in STAGES[stage]["deps"] if not dep.startswith(CODE)]
    listed = textwrap.fill(", ".join([*data, *sorted(paths)]), 111, break_on_hyphens=False)
    return f"change {stage} in dvc.yaml to\n    deps:\n      [\n{textwrap.indent(listed, ' ' * 8)}\n      ]"


@pytest.mark.parametrize("stage", EXPENSIVE)
def test_a_stage_that_trains_depends_on_exactly_the_files_that_it_imports(stage: str) -> None:
    covered = set().union(*(files_under(path) for path in named_code(stage)))
    assert covered == code_of(stage), advice(stage, fewest_paths(code_of(stage)))


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in EXPENSIVE])
def test_a_stage_depends_on_exactly_the_layers_that_it_imports_from(stage: str) -> None:
    expected = layers_of(code_of(stage))
    assert named_code(stage) == expected, advice(stage, expected)


def test_the_first_stage_tracks_all_parameters_and_its_output_is_always_the_same() -> None:
    assert next(iter(STAGES)) == "check" and STAGES["check"]["params"] == [{"params.yaml": None}]
    assert "reports/checked.txt" in STAGES["download"]["deps"], "so that it comes before every other stage"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "check"])
def test_a_stage_tracks_exactly_the_parameters_that_it_reads(stage: str) -> None:
    tree = ast.parse((ROOT / f"pipeline/{stage}.py").read_text(encoding="utf-8"))
    read = {
        section
        for section, attribute in SECTIONS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        and node.value.id == "params" and node.attr == attribute
    }  # fmt: skip
    assert {key.partition(".")[0] for key in STAGES[stage]["params"]} == read


def test_folds_tracks_the_keys_of_evaluate_that_it_reads() -> None:
    script = (ROOT / "pipeline/folds.py").read_text(encoding="utf-8")
    read = set(re.findall(r"params\.(evaluate\.\w+)", script))
    assert {key for key in STAGES["folds"]["params"] if "." in key} == read


def test_the_closure_follows_indirect_and_late_imports() -> None:
    assert "src/plumage/data/dataset/thumbnail.py" in code_of("download")  # through dataset/ingest.py and check.py
    assert "src/plumage/config.py" in code_of("split")  # through _stage.py


def test_git_keeps_the_lock_file_and_uncached_outputs_and_ignores_cached_ones() -> None:
    outputs = {
        path: options.get("cache", True)
        for stage in STAGES.values()
        for output in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        for path, options in ([(output, {})] if isinstance(output, str) else output.items())
    }
    asked = [*outputs, "dvc.lock"]
    done = subprocess.run(["git", "check-ignore", "--no-index", *asked], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [path for path, cached in outputs.items() if cached]
    kept = {"reports/history.csv", "reports/metrics.json", "reports/registry.json", *PLOT_DATA}
    assert {path for path, cached in outputs.items() if not cached} == kept


def test_an_experiment_changes_only_its_own_line_of_params_yaml(tmp_path: Path) -> None:
    content = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
    with modify_yaml(str(tmp_path / "params.yaml")) as params:  # as `dvc exp run -S` does
        params["split"]["seed"] = 7
    written = (tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.ndiff(content.splitlines(), written) if line[0] in "+-"]
    assert changed == ["-   seed: 0", "+   seed: 7"], "`with modify_yaml('params.yaml'): pass` writes it as DVC does"


def test_params_yaml_holds_every_key_so_that_any_can_be_set_for_an_experiment() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    known = {name: set(type(field.default).model_fields) for name, field in Params.model_fields.items()}
    assert {name: set(section) for name, section in params.items()} == {
        alias: known[name] for alias, name in SECTIONS.items()
    }
