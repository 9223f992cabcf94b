"""Stage register: the model into MLflow's registry, once; champion when the gate lets it."""

from pathlib import Path

from _stage import run_stage
from plumage.common.files import write_json
from plumage.common.paths import project_root
from plumage.config import Params
from plumage.registry.stage import register_outputs, verdict


def main(params: Params) -> None:
    outcome = register_outputs(
        project_root(),
        params.tracking.experiment,
        params.register_,
        params.split.similarity,
        params.flat(but="register"),
    )
    write_json(Path("reports/registry.json"), outcome)
    print(verdict(outcome))


if __name__ == "__main__":
    run_stage(main)
