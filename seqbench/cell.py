"""One cell from its configuration to its record: what `run` and `seqbench.run` do.

The order matters: everything that can be refused is refused before anything is written, the output directory is probed
before training, and the test split is read once, after it.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from seqbench.checkpoint import CHECKPOINT, Checkpoint
from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.errors import UserError
from seqbench.failure import failure
from seqbench.kept import DONE
from seqbench.models.backbone import SequenceModel, build, check_causal
from seqbench.models.sizing import width_for
from seqbench.outcome import Writer
from seqbench.plan import Listener, Plan, plan
from seqbench.record import Record
from seqbench.store import Store
from seqbench.train import fit

__all__ = ["Outcome", "build_model", "run_cell"]


RESUMED = ("standard", "full")  # budgets long enough to go on where they were; the others start again


@dataclass(frozen=True)
class Outcome:
    """A record, the folder it lies in, and whether it was there before."""

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
    # a store that is there may be read-only and still hold the result
    cell_plan = plan(config, listener, ready=lambda: None if store.root.is_dir() else store.probe())
    cell = store.cell(cell_plan.prepared.spec.name, cell_plan.model.name, config.budget, config.seed, cell_plan.key)
    found = store.find(cell, cell_plan.key)
    if found and found[0].status in DONE and not force:
        return Outcome(*found, stored=True)
    with settings(cell_plan.device, cell_plan.config):
        writer = Writer(cell_plan, listener.say)
        model, record = _built(cell_plan, writer)
        store.probe()
        checkpoint = Checkpoint(cell / CHECKPOINT, cell_plan.key, cell_plan.device)
        if force:
            checkpoint.remove()
        with store.writing(cell) as folder:
            if model is not None:
                record = _attempt(cell_plan, model, folder, listener, writer, checkpoint)
            assert record is not None
            outcome = Outcome(*store.publish(folder, cell, record, again=found is not None), stored=False)
            checkpoint.remove()
            return outcome


def _built(cell_plan: Plan, writer: Writer) -> tuple[SequenceModel | None, Record | None]:
    """The model on its device, or the record that says why there is none."""
    try:
        return build_model(cell_plan).to(cell_plan.device), None
    except (UserError, OSError):
        raise
    except Exception as error:
        return None, _failed(error, writer)


def build_model(cell_plan: Plan) -> SequenceModel:
    """The untrained model of ``cell_plan``; raises `UserError` if none is as small as its ``params``."""
    config, data, kind = cell_plan.config, cell_plan.prepared.data, cell_plan.prepared.spec.kind
    widths = config.widths
    if config.params is not None:
        width = width_for(config.params, cell_plan.model.name, kind, data, config.n_layers, config.backbone)
        widths = (width,) * config.n_layers
    return build(cell_plan.model.name, kind, data, widths, config.dropout or 0.0, config.backbone)


def _attempt(
    plan: Plan, model: SequenceModel, folder: Path, listener: Listener, writer: Writer, checkpoint: Checkpoint
) -> Record:
    """Train and test ``model``; whatever goes wrong with it becomes the record's status and reason."""
    resumed = checkpoint if plan.config.budget in RESUMED else None
    data, causal = plan.prepared.data, type(model.head).causal
    try:
        if causal:  # a quick refusal
            check_causal(model, data, length=8)
        listener.begin(plan.budget.steps)
        done = fit(model, plan.prepared.spec, plan.data, plan.config, plan.budget, listener.report, resumed)
        if causal:  # once more, over the whole length: what training has put to use
            check_causal(model, data, data.train.sequence_length)
        return writer.finish(model, done, folder)
    except (UserError, OSError):
        raise  # the disk, say: not the model's failure
    except Exception as error:
        record = _failed(error, writer, model)
        if record.status == "error":
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return record


def _failed(error: Exception, writer: Writer, model: SequenceModel | None = None) -> Record:
    """The record of a cell that ended with ``error``."""
    return writer.record(*failure(error), model)
