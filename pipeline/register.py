"""Stage register: add the model to MLflow's registry, once, and make it champion if the gate lets it."""

from _stage import run_stage
from plumage.common import paths
from plumage.common.class_names import ClassNames
from plumage.common.files import write_json
from plumage.common.project import project_root
from plumage.registry.decision import summary
from plumage.registry.register import register_outputs
from plumage.stage_inputs import StageInputs


def main(inputs: StageInputs) -> None:
    params = inputs.params
    registered = register_outputs(
        project_root(),
        params.tracking.experiment,
        params.register_,
        params.split.similarity,
        ClassNames(params.data.classes),
        params.flat("register"),
    )
    inputs.check()
    write_json(paths.REGISTRY, registered)
    print(summary(registered))


if __name__ == "__main__":
    run_stage(main)
