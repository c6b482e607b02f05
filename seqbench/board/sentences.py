"""What stands above and below a table, in words: conditions, real differences, failures, learning rates. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from seqbench.board.compare import Comparison, Difference
from seqbench.board.table import Table, baseline_spread
from seqbench.experiment import TRIAL_SEED
from seqbench.jobs.store import RECORD
from seqbench.report.text import escape, link, listed

__all__ = ["against_baseline", "conditions", "least", "notes", "real_differences"]

REPEATABLE = ("diverged", "not_applicable")  # their reasons tell nothing of the machine
MOST_VERSIONS = 6


def conditions(it: Table, quality: bool) -> list[str]:
    """Lines above the table."""
    group, task, config = it.group, it.group.task, it.group.config
    control, primary = config.get("control", "none"), group.primary
    metric = "Metric: none measured"
    if primary:
        unit = f" ({primary.unit})" if primary.unit else ""
        skill = f"; skill is 0 for {primary.reference}" if primary.reference is not None else ""
        skill += f" and 1 at {primary.perfect:g}" if primary.perfect is not None else ""
        metric = f"Metric: test {primary.name}{unit}, {primary.direction} is better{skill}"
    options = "".join(f", {name} {value}" for name, value in task.options.items() if value != "")
    code = f", code {task.code_sha256[:12]}" if task.code_sha256 else ""
    lines = [
        f"Task: {task.name} version {task.version}{code} ({task.kind}){options}; {task.n_train:,} training, "
        f"{task.n_val:,} validation and {task.n_test:,} test examples"
        + (f", these in {group.n_groups} groups for the intervals" if group.n_groups else ""),
        f"Data: {task.source}, SHA-256 {task.data_sha256[:12]}",
        metric,
        f"Training: budget {group.budget}, {_training(it)}",
        f"Models: {it.track}, {config.get('layers')} layer(s), {config.get('backbone')} backbone",
        f"Ran on: {group.device}, {config.get('precision')}, {config.get('threads')} thread(s)"
        + ("" if quality else f"; {_machines(it)}"),
    ]
    if control != "none":
        lines.insert(0, f"CONTROL {control}: these models were trained so that nothing true can be learned")
    return [escape(line) + "." for line in lines]


def _training(it: Table) -> str:
    config = it.group.config
    patience = config.get("patience")
    stop = f", stopping after {patience} evaluations without a better one" if patience else ""
    steps, batch, dropout = (config.get(name) for name in ("steps", "batch_size", "dropout"))
    decay = config.get("weight_decay")
    return f"{steps:,} steps of {batch} sequences{stop}, dropout {dropout}, weight decay {decay}"


def _machines(it: Table) -> str:
    """Device names and versions of the runs that are shown."""
    environments = [cell.environment for row in it.rows if row.entrant for cell in row.entrant.cells.values()]
    code = {
        e.seqbench + (f" at {e.git_commit[:9]}{' with changes' if e.git_dirty else ''}" if e.git_commit else "")
        for e in environments
    }
    found = {
        "": {e.device_name for e in environments},
        "Python ": {e.python for e in environments},
        "torch ": {e.torch for e in environments},
        "seqbench ": code,
    }
    return "; ".join(name + _some(values) for name, values in found.items())


def _some(values: Iterable[str]) -> str:
    names = sorted(values)
    more = f" and {len(names) - MOST_VERSIONS} more" if len(names) > MOST_VERSIONS else ""
    return ", ".join(names[:MOST_VERSIONS]) + more


def least(comparison: Comparison, unit: str, places: int, models: int) -> str:
    """The smallest detectable difference, or why there is none."""
    if models < 2:
        return "Fewer than two models are complete: no two can be compared."
    if math.isnan(comparison.least):
        return (
            "No p-values, so no difference is shown to be real: these need two seeds of every model at least, and the "
            "leave-one-out figures that records keep beside them."
        )
    count = len(comparison.differences)
    among = f", with {count} comparisons" if count > 1 else ""
    return (
        f"Smallest true difference that is found with 80% power: {comparison.least:,.{places}f}{unit} (between a "
        f"typical pair{among})."
    )


def real_differences(comparison: Comparison, models: Sequence[str]) -> str:
    """Which of ``models`` is better than which, in one sentence."""
    if len(models) < 2 or math.isnan(comparison.least):
        return ""
    winners: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        beaten = {_other(one, model) for one in comparison.differences if one.better == model}
        if beaten:
            winners.setdefault(tuple(name for name in models if name in beaten), []).append(model)
    if not winners:
        return "**Real differences**: none; no two models can be told apart."
    said = [f"{listed(names)} {_are(names)} better than {listed(beaten)}" for beaten, names in winners.items()]
    rest = any(one.better is None for one in comparison.differences)
    end = "no other pair can be told apart" if rest else "every pair is told apart"
    return f"**Real differences**: {escape('; '.join(said))}; {end}."


def _other(one: Difference, label: str) -> str:
    return one.second if one.first == label else one.first


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def against_baseline(it: Table) -> str:
    """Which models are better and which worse than the strongest baseline, in one sentence."""
    tested = [one for one in it.against if not math.isnan(one.adjusted)]
    if not tested or it.strongest is None:
        return ""
    found: dict[str, list[str]] = {"better": [], "worse": [], "can't be told from it": []}
    place = [row.label for row in it.rows].index
    for one in sorted(tested, key=lambda one: place(one.first)):
        kind = "can't be told from it" if one.better is None else "better" if one.better == one.first else "worse"
        found[kind].append(one.first)
    said = [
        f"{listed(names)} {kind if kind.startswith('can') else f'{_are(names)} {kind}'}"
        for kind, names in found.items()
        if names
    ]
    return f"**Against the strongest baseline**, {escape(it.strongest)}: {escape('; '.join(said))}."


def notes(it: Table, quality: bool, base: Path) -> list[str]:
    """The further lines below the table."""
    lines = [*_intervals(it), *_failures(it, quality, base), _rates(it), _others(it)]
    spread = baseline_spread(it.group.baselines)
    if spread:
        lines.append(escape(f"Records disagree about {listed(spread)}: one of their figures is shown."))
    if not quality:
        lines.append(_costs(it))
    return [line for line in lines if line]


def _intervals(it: Table) -> list[str]:
    """What intervals lack, if they do."""
    shown = [sure for row in it.rows if row.entrant for sure in (row.metric, row.skill) if sure]
    said = []
    if shown and len(it.seeds) == 1:
        said.append("One seed only: intervals are over test examples and leave out how much training varies.")
    if any(math.isnan(sure.low) for sure in shown):
        said.append("Where no interval stands, records are too old to hold what it takes: run them again with --force.")
    return said


def _failures(it: Table, quality: bool, base: Path) -> list[str]:
    found = []
    for row in it.rows:
        if row.entrant is None:
            continue
        if row.entrant.not_applicable:
            found.append(f"Not applicable: {escape(row.label)}: {escape(row.entrant.not_applicable)}")
            continue
        for seed, cell in row.entrant.cells.items():
            if cell.status != "ok":
                name = f"seed {seed}" if quality else link(f"seed {seed}", cell.folder / RECORD, base)
                told = not quality or cell.status in REPEATABLE
                reason = f": {escape(cell.reason or 'no reason given')}" if told else ""
                found.append(f"Failed: {escape(row.label)} {name} {escape(cell.status)}{reason}")
    return found


def _rates(it: Table) -> str:
    """Each model's learning rate, where there was none to choose; else a table says them (`markdown`)."""
    found = {row.label: row.entrant for row in it.rows if row.entrant is not None and not row.entrant.not_applicable}
    if not found or any(len(one.trials) > 1 for one in found.values()):
        return ""
    if len({one.rate for one in found.values()}) == 1:
        return f"Learning rate: {next(iter(found.values())).rate:g}, given and not chosen among several."
    said = ", ".join(f"{label} {found[label].rate:g}" for label in sorted(found))
    return f"Learning rates, given and not chosen among several: {escape(said)}."


def _others(it: Table) -> str:
    """Runs that no row shows."""
    count = sum(row.entrant.others for row in it.rows if row.entrant)
    return f"{count} further run(s), at learning rates that were not taken, are in no figure here." if count else ""


def _costs(it: Table) -> str:
    basis = it.basis
    if basis is None:
        return ""
    kind = "CPU seconds of the process" if basis.cpu else "wall-clock seconds"
    lines = [f"train s: {kind} in training, mean of a run, and tokens/s by the same; peak MiB: the largest of the runs"]
    if any(row.costs and row.costs.tuning is not None for row in it.rows):
        lines.append(
            f"tuning s: what the other learning rates took at seed {TRIAL_SEED} (≥ where a trial left no cost)"
        )
    lines.append(f"all on {basis.device_name}")
    if basis.others:
        lines.append(f"{basis.others} run(s) on other devices are left out of the costs")
    if basis.interrupted:
        lines.append(f"{basis.interrupted} run(s) were interrupted and resumed")
    return "Costs: " + escape("; ".join(lines) + ".")
