"""One table: a group's models ranked, its baselines among them, and which of the differences are real. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seqbench.board.choice import Entrant, entrants, expected_seeds
from seqbench.board.collect import Baseline, Group, ModelId
from seqbench.board.compare import Array, Comparison, Difference, Figures, Sure, against, compare, pairs
from seqbench.board.costs import Basis, Costs, basis_of, costs_of
from seqbench.board.naming import track

__all__ = ["Row", "Table", "make_table"]


@dataclass(frozen=True)
class Row:
    """A model or, without an ``entrant``, a baseline. Only complete models have figures and a rank.

    ``metric`` and ``skill`` are means over the seeds; ``ranks`` are the rank and the least and greatest one that the
    significant differences leave open.
    """

    label: str
    entrant: Entrant | None
    metric: Sure | None
    skill: Sure | None
    figures: Figures | None = None  # of the skill, one value a seed
    ranks: tuple[int, int, int] | None = None
    costs: Costs | None = None

    def state(self, seeds: tuple[int, ...]) -> str:
        """``5/5``, ``4/5 (1 diverged)``, or ``not applicable``."""
        if self.entrant is None:
            return ""
        if self.entrant.not_applicable:
            return "not applicable"
        cells = self.entrant.cells
        bad = Counter(cells[seed].status if seed in cells else "missing" for seed in seeds)
        done = bad.pop("ok", 0)
        why = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(bad.items()))
        return f"{done}/{len(seeds)}" + (f" ({why})" if why else "")


@dataclass(frozen=True)
class Table:
    """A group's board. ``strongest`` is the baseline with the best test figure, if there is one."""

    group: Group
    track: str
    setting: tuple[str, ...]
    variant: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: list[Row]
    comparison: Comparison
    strongest: str | None
    against: list[Difference]
    basis: Basis | None
    labels: dict[ModelId, str]

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return -1 if self.group.primary and self.group.primary.direction == "lower" else 1

    @property
    def title(self) -> str:
        """Task, budget, track, and in what the table differs from the usual one of these."""
        about = (self.group.task.name, self.group.budget, self.track, *self.setting, *self.variant)
        return " · ".join(about)

    def better_than(self, label: str) -> list[str]:
        """Rows that the row ``label`` is significantly better than, in the table's order."""
        found = [one for one in (*self.comparison.differences, *self.against) if one.better == label]
        losers = {one.second if one.first == label else one.first for one in found}
        return [row.label for row in self.rows if row.label in losers]


def make_table(
    group: Group, labels: dict[ModelId, str], setting: tuple[str, ...] = (), variant: tuple[str, ...] = ()
) -> Table:
    """Choose learning rates, rank the complete models, and compare them."""
    found = entrants(group)
    seeds, basis = expected_seeds(found), basis_of(found)
    sign = -1 if group.primary and group.primary.direction == "lower" else 1
    whole = {labels[one.model]: _figures(group, one, seeds) for one in found if one.complete(seeds)}
    skills = {labels[one.model]: _skills(group, one, seeds) for one in found if one.complete(seeds)}
    metric = {label: Sure.of(figures) for label, figures in whole.items()}
    means = {label: sure.value for label, sure in metric.items()}
    models = sorted(means, key=lambda label: (-sign * means[label], label))
    differences = pairs(models, lambda a, b: whole[a].minus(whole[b]), sign)
    comparison = compare(models, means, differences, sign)
    rows = [
        Row(
            label,
            one,
            metric.get(label),
            Sure.of(skills[label]) if label in skills else None,
            skills.get(label),
            comparison.ranks.get(label),
            costs_of(one, basis),
        )
        for one in found
        for label in [labels[one.model]]
    ]
    rows += [_baseline_row(group, name, baseline) for name, baseline in group.baselines.items()]
    strongest = min(group.baselines, key=lambda name: (-sign * group.baselines[name].value, name), default=None)
    tested = against(whole, strongest, _of_baseline(group, group.baselines[strongest]), sign) if strongest else []
    rows.sort(key=lambda row: _place(row, sign))
    return Table(group, track(group), setting, variant, seeds, rows, comparison, strongest, tested, basis, dict(labels))


def _place(row: Row, sign: int) -> tuple[int, float, bool, str]:
    """By value; a model before a baseline of the same value; then the incomplete and the not applicable."""
    if row.metric is not None:
        return 0, -sign * row.metric.value, row.entrant is None, row.label
    applicable = row.entrant is not None and not row.entrant.not_applicable
    return 1 if applicable else 2, 0.0, False, row.label


def _stack(rows: list[Array | None], size: int) -> Array:
    """(S, G), or (S, 0) where any row is missing or was made of other test groups."""
    kept = [row for row in rows if row is not None and len(row) == size]
    return np.stack(kept) if len(kept) == len(rows) else np.empty((len(rows), 0))


def _figures(group: Group, entrant: Entrant, seeds: tuple[int, ...]) -> Figures:
    cells = [entrant.cells[seed] for seed in seeds]
    values = np.array([math.nan if cell.test is None else cell.test for cell in cells])
    return Figures(values, _stack([cell.left_out for cell in cells], group.n_groups))


def _skills(group: Group, entrant: Entrant, seeds: tuple[int, ...]) -> Figures:
    """Skill a seed; records from before `perfect` was kept give theirs, without a part for the test examples."""
    if group.primary is None or group.primary.perfect is None or group.primary.reference is None:
        values = [entrant.cells[seed].skill for seed in seeds]
        return Figures(np.array([math.nan if it is None else it for it in values]), np.empty((len(seeds), 0)))
    return _skill(group, _figures(group, entrant, seeds))


def _skill(group: Group, figures: Figures) -> Figures:
    """0 at the reference baseline, 1 at the perfect value; without a test group the reference is too."""
    primary = group.primary
    assert primary is not None and primary.reference is not None and primary.perfect is not None
    reference = _of_baseline(group, group.baselines[primary.reference])
    values = _scaled(figures.values, reference.values, primary.perfect)
    if figures.left_out.shape[1] != reference.left_out.shape[1]:
        return Figures(values, np.empty((len(values), 0)))
    return Figures(values, _scaled(figures.left_out, reference.left_out, primary.perfect))


def _scaled(values: Array, reference: Array, perfect: float) -> Array:
    span = np.broadcast_to(perfect - reference, values.shape)
    exact = (values == perfect).astype(float)  # as `TaskSpec.skill` has it where the reference is perfect
    scaled: Array = np.divide(values - reference, span, out=exact, where=span != 0)
    return scaled


def _of_baseline(group: Group, baseline: Baseline) -> Figures:
    return Figures(np.array([baseline.value]), _stack([baseline.left_out], group.n_groups))


def _baseline_row(group: Group, name: str, baseline: Baseline) -> Row:
    figures = _of_baseline(group, baseline)
    known = group.primary is not None and group.primary.perfect is not None and group.primary.reference is not None
    return Row(name, None, Sure.of(figures), Sure.of(_skill(group, figures)) if known else None)


def baseline_spread(baselines: Mapping[str, Baseline]) -> list[str]:
    """Baselines that records give different figures for, which another version of seqbench may have made."""
    return [name for name, it in baselines.items() if it.most - it.least > 1e-6 * max(abs(it.most), abs(it.least))]
