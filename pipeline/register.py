"""Stage register: add the model to MLflow's registry, once, and make it champion if the gate lets it."""

from _stage import run_stage
from plumage.common import paths
from plumage.common.class_names import ClassNames
from plumage.common.files import write_json
from plumage.common.project import project_root
from plumage.config import Params
from plumage.registry.decision import summary
from plumage.registry.register import register_outputs


def main(params: Params) -> None:
    registered = register_outputs(
        project_root(),
        params.tracking.experiment,
        params.register_,
        params.split.similarity,
        ClassNames(params.data.classes),
        params.flat(but="register"),
    )
    write_json(paths.REGISTRY, registered)
    print(summary(registered))


if __name__ == "__main__":
    run_stage(main)
