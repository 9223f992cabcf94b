"""Stage folds: with `evaluate.folds`, judge the recipe on all photos by cross-validation; write reports/folds.csv."""

from _stage import run_stage
from plumage.common.files import write_text
from plumage.common.paths import FOLDS
from plumage.stage_inputs import StageInputs


def main(inputs: StageInputs) -> None:
    params = inputs.params
    if params.evaluate.folds is None:
        write_text(FOLDS, "key,label,fold\n")
        return
    from _cross_validate import cross_validate  # late: it imports torch, which takes seconds

    cross_validate(inputs, params.evaluate.folds, params.evaluate.seed, params.model, params.train.resolved())


if __name__ == "__main__":
    run_stage(main)
