"""The description of a saved model, `model.json`: all that its use needs beside the weights. Importing it does not import torch."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from plumage.architectures import ARCHITECTURES, ArchitectureConfig
from plumage.common import paths
from plumage.common.files import read_json
from plumage.common.text import escaped
from plumage.errors import ModelError
from plumage.models.preprocessing import Preprocessing

FORMAT = 1
WEIGHTS_FILE, DESCRIPTION_FILE = paths.WEIGHTS.name, paths.DESCRIPTION.name
ClassName = Annotated[str, StringConstraints(min_length=1)]


class Description(BaseModel):
    """The content of `model.json`: within these limits, a network takes bounded memory and gives finite probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    architecture: ArchitectureConfig
    classes: list[ClassName] = Field(min_length=1)  # the name of each logit, in order
    preprocessing: Preprocessing
    temperature: float = Field(1.0, ge=0.001, le=1000)  # logits are divided by it before the softmax

    @model_validator(mode="after")
    def _check(self) -> Self:
        """The size of the network is its architecture's, and no two classes have the same name."""
        found = self.architecture
        if found.name not in ARCHITECTURES:
            raise ValueError(f"architecture.name: is {found.name[:40]!r}; takes {', '.join(ARCHITECTURES)}")
        known = ARCHITECTURES[found.name]
        for key in ("width", "depth", "resolution", "lite"):
            if getattr(found, key) != getattr(known, key):
                value = f"is {getattr(found, key)!r}, but {getattr(known, key)!r} in {found.name}"
                raise ValueError(f"architecture.{key}: {value}")
        name, count = Counter(self.classes).most_common(1)[0]
        if count > 1:
            raise ValueError(f"classes: has {name!r} {count} times")
        return self


def read_description(path: Path) -> Description:
    """The model description in `path`. ModelError if it is missing, damaged or of an unknown format."""
    try:
        content: Any = read_json(path)
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise ModelError(f"{path}: its format is {repr(found)[:40]}; this version of Plumage reads format {FORMAT}")
        return Description.model_validate_json(json.dumps(content), strict=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder holds {WEIGHTS_FILE} and {DESCRIPTION_FILE}") from None
    except ValidationError as error:
        raise ModelError(f"{path}: {first_problem(error)}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a model description ({error})") from None


def first_problem(error: ValidationError) -> str:
    """What the first of a description's mistakes is, on one line."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return escaped(": ".join(filter(None, (".".join(map(str, first["loc"])), message))))
