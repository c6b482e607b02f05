"""Records of two sides: does the same training reach the same score? Paired by task, model and seed.

On a CPU the same code gives the same figures to the last bit, so equal figures pass at once. Otherwise the differences,
seed by seed and test group by test group, have an interval over both (`stats.estimate`), their p-values are adjusted
over all that is compared (Holm 1979), and a difference must also be large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqbench.board.frame import Result, load_results, results_of
from seqbench.gate.verdict import Change
from seqbench.jobs.record import RunRecord, hash_of
from seqbench.jobs.store import RECORD
from seqbench.stats import estimate, holm

__all__ = ["RELEVANT", "compare_quality", "read_records"]

ALPHA = 0.05
RELEVANT = 0.005  # of skill: a smaller loss does not stop a change
Runs = dict[int, Result]  # of one model on one task, by seed


def read_records(path: Path) -> list[Result]:
    """Every record below ``path``; none if it has none.

    Raises:
        UserError: one is damaged or altered.
    """
    place = path.resolve()
    homes = {file.parents[4] for file in place.rglob(RECORD) if len(file.parents) > 4}
    roots = sorted(root for root in homes if any(root.glob(f"{RunRecord.PATTERN}/run-*")))  # not those of probes
    results = results_of(load_results(roots)) if roots else []
    return [result for result in results if result.folder.is_relative_to(place)]


def compare_quality(base: Iterable[Result], head: Iterable[Result], relevant: float = RELEVANT) -> list[Change]:
    """Every model on every task that either side has; ``relevant`` is the least loss of skill that counts."""
    before, after = _grouped(base), _grouped(head)
    pairs = [(before[key], after[key]) for key in before if key in after]
    left = [{key: runs for key, runs in side.items() if key not in before.keys() & after.keys()} for side in
            (before, after)]  # fmt: skip
    pairs += _paired_by_name(*left)
    done = {id(runs) for pair in pairs for runs in pair}
    gone, new = ([runs for runs in side.values() if id(runs) not in done] for side in left)
    changes = [*_judged([_compared(*pair) for pair in pairs], relevant)]
    changes += [*(_alone(runs, "missing") for runs in gone), *(_alone(runs, "new") for runs in new)]
    return _named(changes, [_facts(runs) for runs in (*(pair[1] for pair in pairs), *gone, *new)])


def _alone(runs: Runs, verdict: Literal["missing", "new"]) -> Change:
    """What only one side has."""
    counts = (len(runs), 0) if verdict == "missing" else (0, len(runs))
    return Change("quality", _name(runs), "quality", verdict=verdict, unit="", processes=counts)


# --- which runs belong together --------------------------------------------------------------------------------------


def _grouped(results: Iterable[Result]) -> dict[str, Runs]:
    """Runs that differ in the seed only, by what they share."""
    groups: dict[str, Runs] = {}
    for run in sorted(results, key=lambda run: run.finished):
        shared: list[object] = [run.data_name, run.task, run.source, run.options, run.model, run.hidden, run.backbone]
        shared += [run.learning_rate, run.config, run.device, run.threads]
        groups.setdefault(hash_of({"shared": shared}), {})[run.seed] = run
    return groups


def _paired_by_name(before: dict[str, Runs], after: dict[str, Runs]) -> list[tuple[Runs, Runs]]:
    """Those whose configuration changed, another default say: the only ones of their name on both sides."""
    sides: list[dict[str, list[Runs]]] = [{}, {}]
    for groups, names in zip((before, after), sides, strict=True):
        for runs in groups.values():
            names.setdefault(_name(runs), []).append(runs)
    return [
        (sides[0][name][0], sides[1][name][0])
        for name in sides[0].keys() & sides[1].keys()
        if len(sides[0][name]) == len(sides[1][name]) == 1
    ]


def _named(changes: Sequence[Change], facts: Sequence[dict[str, Any]]) -> list[Change]:
    """Of several with one name, each with what tells it apart, such as its dropout."""
    named = []
    for change, own in zip(changes, facts, strict=True):
        alike = [each for each, other in zip(facts, changes, strict=True) if other.name == change.name]
        apart = [name for name in own if len({repr(each.get(name)) for each in alike}) > 1]
        more = " ".join(f"{name.replace('_', ' ')} {own[name]}" for name in apart)
        named.append(replace(change, name=f"{change.name} {more}".strip()))
    return named


def _facts(runs: Runs) -> dict[str, Any]:
    first = _first(runs)
    return {**first.config, "hidden": first.hidden, "learning_rate": first.learning_rate, "options": first.options}


def _first(runs: Runs) -> Result:
    return next(iter(runs.values()))


def _name(runs: Runs) -> str:
    first = _first(runs)
    control = f" CONTROL {first.control}" if first.control else ""
    return f"{first.data_name} {first.model} {first.budget}{control}"


# --- one pair --------------------------------------------------------------------------------------------------------


def _compared(before: Runs, after: Runs) -> tuple[Change, float | None]:
    """The change, and if it is still to be judged the difference in skill that it is; better is above 0."""
    seeds = sorted(before.keys() & after.keys())
    ok = [_first(before), *(run for runs in (before, after) for run in runs.values() if run.outcome == "ok")]
    metric = next((run for run in ok if run.metric), ok[0])
    plain = Change(
        kind="quality",
        name=_name(after),
        group="quality",
        unit=f"{metric.metric or ''} {metric.unit or ''}".strip(),
        processes=(len(before), len(after)),
        note=_notes(before, after),
    )
    if lost := sorted(before.keys() - after.keys()):
        return replace(plain, verdict="missing", note=_joined(f"no run of seed {_listed(lost)}", plain.note)), None
    if bad := [run for run in after.values() if run.seed in before and _broke(before[run.seed], run)]:
        reason = f"seed {_listed(run.seed for run in bad)}: {bad[0].outcome} ({bad[0].reason or 'no reason given'})"
        return replace(plain, verdict="failed", note=_joined(reason, plain.note)), None
    both = [seed for seed in seeds if before[seed].outcome == after[seed].outcome == "ok"]
    if not both:
        return replace(plain, note=_joined(f"{_first(after).outcome} on both sides", plain.note)), None
    return _difference([before[seed] for seed in both], [after[seed] for seed in both], plain)


def _broke(before: Result, after: Result) -> bool:
    return before.outcome == "ok" and after.outcome != "ok"


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _notes(before: Runs, after: Runs) -> str:
    """What differs beside the score."""
    old, new = _first(before), _first(after)
    facts: list[tuple[str, Any, Any]] = [("parameters", old.params, new.params)]
    names = sorted({*old.config, *new.config})
    facts += [(name.replace("_", " "), old.config.get(name), new.config.get(name)) for name in names]
    facts.append(("learning rate", old.learning_rate, new.learning_rate))
    return _joined(*(f"{name} {first} -> {second}" for name, first, second in facts if first != second))


def _difference(before: Sequence[Result], after: Sequence[Result], plain: Change) -> tuple[Change, float | None]:
    """Head minus base over the seeds that both have."""
    values = np.array([[run.value or 0.0 for run in runs] for runs in (before, after)])
    means = values.mean(axis=1)
    change = replace(plain, before=float(means[0]), after=float(means[1]))
    if any(old.data_sha256 != new.data_sha256 for old, new in zip(before, after, strict=True)):
        note = _joined("the data differ, so these are scores of different tests", plain.note)
        return replace(change, verdict="not told", note=note), None
    if len({(run.metric, run.direction) for run in (*before, *after)}) > 1:
        note = _joined("the metric is another one", plain.note)
        return replace(change, verdict="not told", note=note), None
    if all(_identical(old, new) for old, new in zip(before, after, strict=True)):
        note = _joined("identical", plain.note)
        return replace(change, ratio=1.0, low=0.0, high=0.0, p=1.0, note=note), None
    rows = [_left_out(before), _left_out(after)]
    groups = rows[1] - rows[0] if rows[0].shape == rows[1].shape else rows[0][:, :0]
    told = estimate(values[1] - values[0], groups)
    low, high = told.interval()[1:]
    change = replace(change, low=low, high=high, p=told.p_value())
    return change, told.value / _scale(after[0], means[0])


def _identical(before: Result, after: Result) -> bool:
    same = before.value == after.value and before.validation == after.validation
    if before.left_out is None or after.left_out is None:
        return same
    return same and np.array_equal(before.left_out, after.left_out, equal_nan=True)


def _left_out(runs: Sequence[Result]) -> np.ndarray[Any, Any]:
    """(S, G) figures without each test group; G is 0 where a run has none that can be used."""
    rows = [run.left_out for run in runs]
    sizes = {-1 if row is None or not np.isfinite(row).all() else len(row) for row in rows}
    if len(sizes) != 1 or sizes == {-1}:
        return np.empty((len(rows), 0))
    return np.stack([row for row in rows if row is not None])


def _scale(run: Result, before: float) -> float:
    """What a difference in the metric is divided by to be one in skill; the metric itself where skill is not known."""
    sign = 1.0 if run.direction == "higher" else -1.0
    reference = run.baselines.get(run.reference or "")
    if run.perfect is None or reference is None or run.perfect == reference:
        return sign * abs(before) or sign
    return run.perfect - reference


# --- verdicts --------------------------------------------------------------------------------------------------------


def _judged(compared: Sequence[tuple[Change, float | None]], relevant: float) -> list[Change]:
    """With verdicts; p-values of all that is not identical are one family."""
    adjusted = iter(holm([change.p for change, skill in compared if skill is not None]))
    changes = []
    for change, skill in compared:
        if skill is None:
            changes.append(change)
            continue
        p = next(adjusted)
        said = replace(change, p=p, note=_joined(f"{skill:+.4f} of skill", change.note))
        if math.isnan(p):
            note = _joined("one seed, or too few test groups, can't tell", said.note)
            changes.append(replace(said, verdict="not told", note=note))
        elif p <= ALPHA and abs(skill) >= relevant:
            changes.append(replace(said, verdict="better" if skill > 0 else "worse"))
        else:
            changes.append(said)
    return changes
