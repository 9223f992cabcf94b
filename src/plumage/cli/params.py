"""`plumage params`: the reference of params.yaml and its JSON schema."""

import json
from typing import Annotated

import typer


def params(
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema (docs/params.schema.json)")] = False,
) -> None:
    """Print the reference of params.yaml (docs/params.md)."""
    from plumage.cli.reference import json_schema, reference

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n" if schema else reference()
    print(text, end="")
