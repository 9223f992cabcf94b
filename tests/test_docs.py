"""The pages for people name only what exists."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from PIL import Image

from plumage.cli.main import app
from plumage.config import sections

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
IMAGES = ROOT / "docs" / "images"
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```[\s\S]*?^```|^ {4}.*|`[^`\n]+`", re.MULTILINE)
COMMAND = re.compile(r"(?<![\w./-])plumage (?:--|[a-z]).*")
KEY = re.compile(rf"(?<![\w./-])({'|'.join(sections())})\.([a-z]\w*)(?![\w./(])")
FILE_TYPES = {"csv", "html", "json", "md", "py", "safetensors", "yaml"}
PATH = re.compile(r"(?<![\w./-])(?:src|pipeline|tests|docs|benchmarks)/[\w./-]*\w")

TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_of(page: Path) -> list[str]:
    """The code blocks and spans of a Markdown page."""
    return CODE.findall(page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def unknown_words(words: list[str]) -> list[str]:
    """The subcommands and options of a `plumage` command line that do not exist."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and re.fullmatch("[a-z]+", words[0]):
        if words[0] not in command.commands:
            return words[:1]
        command, words = command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return [word for word in words if word.startswith("--") and word.split("=")[0] not in options]


def test_the_tests_that_hold_a_claim_exist() -> None:
    named = TEST.findall((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert named
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} lacks {name}"


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors_of(target), f"{page.name} links to {link}"


@pages
def test_commands_exist(page: Path) -> None:
    for code in code_of(page):
        for line in COMMAND.findall(code.strip("`")):
            words = re.split(r"[;|&#]", line)[0].split()[1:]
            assert not unknown_words(words), f"{page.name}: {line}"


@pages
def test_parameters_exist(page: Path) -> None:
    for code in code_of(page):
        for section, key in KEY.findall(code):
            assert key in FILE_TYPES or key in sections()[section].model_fields, f"{page.name}: {section}.{key}"


@pages
def test_parameters_in_yaml_exist(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^(?=\w)", block, flags=re.MULTILINE):
            for section, keys in (yaml.safe_load(part) or {}).items():
                if section in sections():
                    assert not set(keys) - set(sections()[section].model_fields), f"{page.name}: {part}"


@pages
def test_files_of_the_repository_exist(page: Path) -> None:
    for code in code_of(page):
        for path in PATH.findall(code):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_pictures_are_small_and_of_one_width() -> None:
    pictures = sorted(IMAGES.glob("*.webp"))
    assert [path.stem for path in pictures] == ["mlflow", "report"]
    for path in pictures:
        assert path.stat().st_size <= 150_000
        assert Image.open(path).width == 1200


def test_pictures_need_a_finished_pipeline(tmp_path: Path) -> None:
    script = tmp_path / "docs" / "images" / "make.py"
    script.parent.mkdir(parents=True)
    shutil.copy(IMAGES / "make.py", script)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'reports/report.html'} is missing; run `dvc repro`\n"
