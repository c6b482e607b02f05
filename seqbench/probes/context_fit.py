"""A model for the probe of context: trained on its task by the engine's own parts, and nothing stored of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from seqbench.config import RunConfig
from seqbench.data.splits import Stream, TaskData
from seqbench.experiment import Listener, Plan, build_model, plan
from seqbench.models.backbone import SequenceModel, check_causal
from seqbench.prepare import Prepared
from seqbench.probes import Case, Told
from seqbench.task import TASKS
from seqbench.training import fit

__all__ = ["trained", "training_options"]

HIDDEN = {"smoke": 32, "quick": 128, "standard": 128}
SMOKE = {"steps": 20, "evaluations": 1}
SMOKE_TEXT = 20_000  # characters of validation and test text: reading all of it would take longer than training


def training_options(prepared: Prepared, budget: str, options: Any, length: int) -> dict[str, Any]:
    """All that decides how a model is trained at ``length`` but the model and the seed, as JSON has it.

    Batches of long windows of text are smaller than the task's. At `smoke` a step holds as many characters as the
    task's does; at `quick` half as many, for twice the steps: few updates on long windows learn little (an LSTM of
    width 128 on a Bible reached 2.23 bits after 1,500 steps of 8 windows of 512, 2.05 after 5,000 of 4). At `standard`,
    which is for a GPU, batch and steps are the task's.
    """
    spec, usual = prepared.spec, prepared.spec.budgets[budget]
    chosen = {**dataclasses.asdict(usual), **(SMOKE if budget == "smoke" else {})}
    if spec.kind == "generate" and budget != "standard":
        halved, times = (2, 2) if budget == "quick" else (1, 1)
        chosen["batch_size"] = max(1, usual.batch_size * int(spec.options().sequence_length) // (halved * length))
        chosen["steps"] *= times
    chosen |= {} if options.steps is None else {"steps": options.steps}
    chosen["evaluations"] = min(chosen["evaluations"], chosen["steps"])
    training = dataclasses.asdict(spec.training)
    training |= {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    return {
        "hidden": options.hidden or HIDDEN[budget],
        "training": {**chosen, **training},
        "text": max(SMOKE_TEXT, 4 * length) if budget == "smoke" and spec.kind == "generate" else None,
        "data": {
            "version": spec.version,
            "code_sha256": TASKS.entry(spec.name).code,
            "data_sha256": prepared.data_sha256,
        },
    }


def trained(case: Case, told: Told) -> tuple[Plan, TaskData, SequenceModel]:
    """The model of ``case``, in the state that did best on validation, its plan and its data.

    Raises:
        NotApplicable: the model sees what the task is to predict.
        Diverged: a loss is not finite.
    """
    about = case.options["training"]
    config = RunConfig(
        task=case.options["task"],
        model=case.models[0],
        budget=case.budget,  # type: ignore[arg-type]  # one of the names that `Request` allows
        seed=case.seed,
        sequence_length=case.options["length"],
        hidden=(case.options["hidden"],),
        device=case.device,  # type: ignore[arg-type]  # the name of a device that is there
        threads=case.threads,
        **{name: about[name] for name in ("learning_rate", "weight_decay", "dropout")},
    )
    chosen = plan(config, Listener(say=told.say))
    model = build_model(chosen).to(chosen.device)
    data, causal = _shortened(chosen.data, case.options["text"]), type(model.head).causal
    if causal:  # a quick refusal
        check_causal(model, data, length=8)
    budget = dataclasses.replace(
        chosen.budget, **{item.name: about[item.name] for item in dataclasses.fields(chosen.budget)}
    )
    told.begin(budget.steps)
    fit(model, chosen.prepared.spec, data, chosen.config, budget, told.report)
    if causal:  # once more, over the whole length: what training has put to use
        check_causal(model, data, data.train.sequence_length)
    return chosen, data, model.eval()


def _shortened(data: TaskData, most: int | None) -> TaskData:
    """Validation and test on their first ``most`` characters."""
    if most is None:
        return data
    assert isinstance(data.val, Stream) and isinstance(data.test, Stream)
    val, test = (Stream.evaluation(part.tokens[:most], part.window) for part in (data.val, data.test))
    return dataclasses.replace(data, val=val, test=test)
