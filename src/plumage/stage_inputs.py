"""What a stage runs with: parameters, code and input files.

DVC records them as they are when the stage has ended. So a stage compares them then with what it loaded, and fails if they
differ: what is recorded is what ran.
"""

import re
from pathlib import Path

from plumage.common.dvc_files import earlier_stages, read_stages, recorded_params
from plumage.common.fingerprints import Fingerprints
from plumage.common.paths import DVC_LOCK, DVC_YAML, PARAMS
from plumage.common.project import project_root
from plumage.common.text import some
from plumage.common.yaml_file import read_yaml
from plumage.config import sections
from plumage.errors import ChangedError, ConfigError
from plumage.params import check_params, differences, effective

CODE = ("pipeline/", "src/")
CODE_SUFFIXES = (".py", ".c", ".h", ".j2")
VARIABLE = re.compile(r"\$\{(\w+)\.(\w+)\}")
"""A parameter in a path of dvc.yaml, as `${data.path}`."""
SHOWN = 3
AGAIN = "run `dvc repro`"
ADVICE = {"train": "undo that and run `dvc repro` to keep this training, or run `dvc repro` to train anew"}
"""What to do then, by stage. A training's last checkpoint stays, and is used if all is as it was."""


def stage_code(stage: str) -> Fingerprints:
    """The code that dvc.yaml lists for `stage`. To be taken before that code is imported."""
    code = [path for path in read_stages(DVC_YAML).get(stage, {}).get("deps", []) if path.startswith(CODE)]
    return Fingerprints({path: Path(path) for path in code}, CODE_SUFFIXES)


class StageInputs:
    """The inputs of `stage` as they are now, in the working directory; `code` as it was before it was imported.

    Raises:
        ConfigError: params.yaml or dvc.yaml can't be read, or a parameter is wrong.
    """

    def __init__(self, stage: str, code: Fingerprints) -> None:
        tree = read_yaml(PARAMS)
        self.params = check_params(tree, str(PARAMS))
        """All of params.yaml."""
        self._stage, self._code, self._stages = stage, code, read_stages(DVC_YAML)
        spec = self._stages.get(stage, {})
        # Stage check lists the whole file.
        self._sections = [name for name in spec.get("params", []) if isinstance(name, str)] or list(sections())
        self._before = effective(tree)
        data = [path for path in spec.get("deps", []) if not path.startswith(CODE)]
        self._files = Fingerprints({path: self._located(path) for path in map(self._filled, data)})

    def check(self) -> None:
        """Check that nothing that the stage depends on was changed since: values of its sections, code, input files.

        Raises:
            ChangedError: names what changed and says what to do.
        """
        changes = [*self._changed_params(), *self._code.changed(), *self._files.changed()]
        if changes:
            raise ChangedError(
                f"changed while it ran, so DVC records nothing: {some(changes, SHOWN)}; {ADVICE.get(self._stage, AGAIN)}"
            )

    def check_earlier(self) -> None:
        """Check that params.yaml still has the values that the stages before this one ran with, as dvc.lock records.

        Raises:
            ChangedError: it has others, which would be recorded with results that they did not give.
        """
        locked = read_stages(DVC_LOCK)
        for name in earlier_stages(self._stages, self._stage):
            recorded = recorded_params(locked, name)
            if found := differences(effective(recorded), self._before, recorded):
                raise ChangedError(f"changed since stage {name} ran: {some(found, SHOWN)}; run `dvc repro`")

    def _changed_params(self) -> list[str]:
        try:
            now = effective(read_yaml(PARAMS))
        except ConfigError as error:
            return [str(error)]
        return differences(self._before, now, self._sections)

    def _filled(self, path: str) -> str:
        """A path of dvc.yaml with the values of its parameters."""
        return VARIABLE.sub(lambda found: str(self._before[f"{found[1]}.{found[2]}"]), path)

    def _located(self, path: str) -> Path:
        """Where the files of an input are. An experiment's copy has links to photos, some of which the stage itself makes."""
        return project_root() / path if path == self.params.data.path else Path(path)
