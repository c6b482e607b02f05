"""One cell from its configuration to its record: what `run` and `seqbench.run` do.

The order matters: everything that can be refused is refused before anything is written, the output directory is probed
before training, and the test split is read once, after it.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from seqbench.config import RunConfig
from seqbench.device import reset_peak_memory, settings
from seqbench.errors import NotApplicable, UserError
from seqbench.models.backbone import SequenceModel, build, check_causal
from seqbench.models.sizing import width_for
from seqbench.outcome import Writer, now
from seqbench.plan import Listener, Plan, plan
from seqbench.prepare import fit_baselines
from seqbench.record import Record
from seqbench.store import Store
from seqbench.train import Diverged, fit

__all__ = ["Outcome", "run_cell"]


@dataclass(frozen=True)
class Outcome:
    """A record, the folder it lies in, whether it was there before, and what was made up on the way, if anything."""

    record: Record
    folder: Path
    stored: bool


def run_cell(config: RunConfig, store: Store, *, force: bool = False, listener: Listener | None = None) -> Outcome:
    """Run one cell, or find its stored result; a run that fails leaves a record that says how.

    Raises:
        UserError: the configuration can't run, or the store can't be written; nothing is written then.
        Interrupted: Ctrl-C; nothing is written then.
    """
    listener = listener or Listener()
    cell_plan = plan(config, listener)
    config = cell_plan.config
    cell = store.cell(cell_plan.prepared.spec.name, cell_plan.model.name, config.budget, config.seed, cell_plan.key)
    found = None if force else store.find(cell, cell_plan.key)
    if found:
        return Outcome(*found, stored=True)
    started = now()
    with settings(cell_plan.device, config):
        try:
            model: SequenceModel | None = _build(cell_plan)  # refuses what can't be built before anything is written
            reason = None
        except NotApplicable as error:
            model, reason = None, str(error)
        store.probe()
        baselines = fit_baselines(cell_plan.prepared, listener.say)
        with store.writing(cell) as folder:
            writer = Writer(cell_plan, {name: scores["test"] for name, scores in baselines.items()}, started)
            if model is None:
                record = writer.record("not_applicable", reason)
            else:
                record = _attempt(cell_plan, model, folder, listener, writer)
            return Outcome(*store.publish(folder, cell, record, again=force), stored=False)


def _build(cell_plan: Plan) -> SequenceModel:
    config, data, kind = cell_plan.config, cell_plan.prepared.data, cell_plan.prepared.spec.kind
    widths = config.widths
    if config.params is not None:
        width = width_for(config.params, cell_plan.model.name, kind, data, config.n_layers, config.backbone)
        widths = (width,) * config.n_layers
    model = build(cell_plan.model.name, kind, data, widths, config.dropout, config.backbone)
    if type(model.head).causal:
        check_causal(model, data)
    return model


def _attempt(plan: Plan, model: SequenceModel, folder: Path, listener: Listener, writer: Writer) -> Record:
    """Train and test ``model``; whatever goes wrong with it becomes the record's status and reason."""
    try:
        reset_peak_memory(plan.device)
        model.to(plan.device)
        listener.begin(plan.budget.steps)
        done = fit(model, plan.prepared.spec, plan.data, plan.config, plan.budget, listener.report)
        return writer.finish(model, done, folder)
    except Diverged as error:
        return writer.record("diverged", str(error), model)
    except (UserError, OSError):
        raise  # the disk, say: not the model's failure
    except Exception as error:
        if _out_of_memory(error):
            return writer.record("oom", str(error).splitlines()[0], model)
        where = traceback.extract_tb(error.__traceback__)[-1]
        (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return writer.record("error", reason, model)


def _out_of_memory(error: Exception) -> bool:
    """Memory ran out, on whichever device: torch has no class of its own for the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
