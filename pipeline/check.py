"""Stage check: check all of params.yaml, before DVC removes the outputs of a stage that could not use it."""

from pathlib import Path

from _stage import run_stage
from plumage.common.files import write_text
from plumage.common.paths import CHECKED
from plumage.common.project import project_root
from plumage.common.set_params import undo_set_params
from plumage.preflight import check_feasible
from plumage.stage_inputs import StageInputs


def main(inputs: StageInputs) -> None:
    check_feasible(inputs.params, project_root())
    inputs.check()
    write_text(CHECKED, "The parameters are valid.\n")  # always the same: changed parameters rerun only their stages


if __name__ == "__main__":
    run_stage(main, after_mistake=lambda: undo_set_params(Path.cwd()))
