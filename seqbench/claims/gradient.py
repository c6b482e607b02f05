"""Claim 5: what gradients do with distance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqbench.claims import Evidence, register_claim
from seqbench.claims.names import model_title
from seqbench.claims.rules import NOT_MEASURED, SEEDS, Aside, Claim, Condition
from seqbench.probes.gradient import VANISHED, Summary, behaviour, summaries, taught
from seqbench.report.text import interval_text, listed, rounded

__all__ = ["gradients_vanish"]

SIDES = {"vanishes": True, "explodes": True, "neither": False}
WHEN = {"start": "before training", "trained": "after training"}
DOES = {"vanishes": "vanishes", "explodes": "explodes", "neither": "does neither", "in between": "is undecided"}
TOO_FEW = f"can't be told from fewer than {SEEDS} seeds"
BETWEEN = "more than flat, but not 1,000-fold with its interval: by this rule neither true nor false"


@register_claim(5, needs={"gradient": ()})
def gradients_vanish(evidence: Evidence) -> Claim:
    """What carries no state is shown beside it, since nothing is multiplied there step after step."""
    known = [row for row in summaries(evidence.of("gradient")) if row.fall_at is not None]
    rows = [row for row in known if row.results[0].state is not None]
    nets = ""
    if rows:
        setting = rows[0].setting
        nets = f"width {setting.hidden}, recall over {setting.length} steps, {taught(rows)}; "
    return Claim(
        "Gradients vanish or explode with distance.",
        "Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013",
        f"{nets}the exact Jacobian of the last output by each input, in double precision, its norm for each sample, "
        "the median of the logarithms over samples, intervals over seeds; it vanishes if the slope against distance "
        "is below 0 and the norm falls 1,000-fold (3 decades) by k = 100, explodes likewise upward (a negative "
        "figure), and does neither, which alone makes the sentence false, if the slope would take more than 3,000 "
        "steps for that; what lies between is undecided",
        _statement(rows, [row for row in known if row not in rows]),
        [_condition(row, rows) for row in rows],
        {
            "Vanishing is not forgetting: recall of trained nets (1 where all is right, 0 for guessing):": [
                _recall(row, known) for row in known if not math.isnan(row.score_at_length.value)
            ],
            "Half-lives of a line through k = 1 to 100, and the share of samples whose gradient grows tenfold:": [
                _half_life(row, known) for row in known if not math.isnan(row.half_life.value)
            ],
        },
    )


def _condition(row: Summary, rows: Sequence[Summary]) -> Condition:
    does = behaviour(row)
    return Condition(
        {"model": row.model, "initialisation": row.setting.initialisation, "training": WHEN[row.setting.when]},
        row.fall,
        f"decades down from k = 1 to {row.fall_at}",
        SIDES.get(does),
        "3 decades down or up, slope clear of 0",
        row.folders,
        f"{_name(row, rows)} {WHEN[row.setting.when]}: {BETWEEN}" if does == "in between" else "",
        regions=((VANISHED, math.inf), (-math.inf, -VANISHED)),
        at_least=row.fall_is_least,
    ).if_seeds(len(row.measured))


def _statement(rows: Sequence[Summary], others: Sequence[Summary]) -> str:
    """What it does in whom, with the decades by which it falls or rises."""
    parts = []
    for when, words in WHEN.items():
        kinds: dict[str, list[str]] = {}
        for row in rows:
            if row.setting.when == when:
                does = DOES.get(behaviour(row), TOO_FEW) if len(row.measured) >= SEEDS else TOO_FEW
                kinds.setdefault(does, []).append(f"{_name(row, rows)} ({_decades(row)})")
        said = [f"{does} in {listed(sorted(names))}" for does, names in kinds.items()]
        parts += [f"{words} it {', '.join(said)}"] if said else []
    if not parts:
        return NOT_MEASURED
    for name in dict.fromkeys(_name(row, others) for row in others):
        compared = [f"{_decades(row)} {WHEN[row.setting.when]}" for row in others if _name(row, others) == name]
        parts.append(f"in a {name}, where no state is multiplied, {' and '.join(compared)}")
    reach = max(row.fall_at or 0 for row in rows)
    return f"The gradient over {reach} steps, in decades down or up: {'; '.join(parts)}."


def _decades(row: Summary) -> str:
    """``down 9.4``, ``up at least 12``."""
    fall = row.fall.value
    if math.isnan(fall):
        return "unknown"
    return f"{'up' if fall < 0 else 'down'} {'at least ' if row.fall_is_least else ''}{rounded(abs(fall), 2)}"


def _name(row: Summary, rows: Sequence[Summary]) -> str:
    several = len({other.setting.initialisation for other in rows if other.model == row.model}) > 1
    return f"{model_title(row.model)} ({row.setting.initialisation})" if several else model_title(row.model)


def _recall(row: Summary, rows: Sequence[Summary]) -> Aside:
    """How well a trained net answers over a distance at which the gradient may have vanished."""
    score = row.score_at_length
    shown = interval_text(score._replace(high=min(score.high, 1.0)), digits=2)  # its interval ends where scores do
    text = f"{_name(row, rows)}: {shown} over {row.setting.length} steps, with the gradient {_decades(row)} decades"
    return Aside(f"{text} at k = {row.fall_at}", row.folders)


def _half_life(row: Summary, rows: Sequence[Summary]) -> Aside:
    known = interval_text(row.half_life, "steps") if math.isfinite(row.half_life.value) else "none"
    fall = f"{_decades(row)} decades at k = {row.fall_at}"
    share = f"{row.explosion.value:.0%} of samples"
    return Aside(f"{_name(row, rows)} {WHEN[row.setting.when]}: {fall}; half-life {known}; {share}", row.folders)
