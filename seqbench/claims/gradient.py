"""Claim 5: what gradients do with distance. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqbench.claims.claim import Aside, Asides, Claim
from seqbench.claims.memory import FEW, SEEDS
from seqbench.claims.names import title
from seqbench.claims.verdict import Condition
from seqbench.probes import Found
from seqbench.probes.gradient_view import VANISHED, Summary, behaviour, summaries, taught
from seqbench.report.text import interval_text, listed, rounded

__all__ = ["gradients_vanish"]

SIDES = {"vanishes": True, "explodes": True, "neither": False}
WHEN = {"start": "before training", "trained": "after training"}
DOES = {"vanishes": "vanishes", "explodes": "explodes", "neither": "does neither", "in between": "is undecided"}
TOO_FEW = f"can't be told from fewer than {SEEDS} seeds"
RECALL = "Vanishing is not forgetting: recall of trained nets (1 where all is right, 0 for guessing):"
HALF_LIVES = "Half-lives of a line through k = 1 to 100, and the share of samples whose gradient grows tenfold:"
BETWEEN = "more than flat, but not 1,000-fold with its interval: by this rule neither true nor false"


def gradients_vanish(found: Sequence[Found]) -> Claim:
    """Claim 5; what carries no state is shown beside it, since nothing is multiplied there step after step."""
    known = [it for it in summaries(found) if it.fall_at is not None]
    rows = [it for it in known if it.found[0].result["state"] is not None]
    return Claim(
        5,
        "Gradients vanish or explode with distance.",
        "Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013",
        f"{_nets(rows)}the exact Jacobian of the last output by each input, in double precision, its norm for each "
        "sample, the median of the logarithms over samples, intervals over seeds; it vanishes if the slope against "
        "distance is below 0 and the norm falls 1,000-fold (3 decades) by k = 100, explodes likewise upward (a "
        "negative figure), and does neither, which alone makes the sentence false, if the slope would take more than "
        "3,000 steps for that; what lies between is undecided",
        _statement(rows, [it for it in known if it not in rows]),
        [_condition(it, rows) for it in rows],
        [Asides(RECALL, _recall(known)), Asides(HALF_LIVES, _half_lives(known))],
    )


def _condition(it: Summary, rows: Sequence[Summary]) -> Condition:
    does = behaviour(it)
    return Condition(
        {"model": it.model, "initialisation": it.initialisation, "training": WHEN[it.when]},
        it.fall,
        f"decades down from k = 1 to {it.fall_at}",
        SIDES.get(does),
        "3 decades down or up, slope clear of 0",
        [one.folder for one in it.found],
        f"{_name(it, rows)} {WHEN[it.when]}: {BETWEEN}" if does == "in between" else "",
        regions=((VANISHED, math.inf), (-math.inf, -VANISHED)),
        at_least=it.fall_is_least,
    ).if_known(len(it.found) >= SEEDS, FEW)


def _nets(rows: Sequence[Summary]) -> str:
    """What was trained, and how."""
    if not rows:
        return ""
    options = rows[0].options
    return f"width {options['hidden']}, recall over {options['length']} steps, {taught(rows)}; "


def _statement(rows: Sequence[Summary], others: Sequence[Summary]) -> str:
    """What it does in whom, with the decades by which it falls or rises."""
    parts = []
    for when, words in WHEN.items():
        kinds: dict[str, list[str]] = {}
        for it in rows:
            if it.when == when:
                does = DOES.get(behaviour(it), TOO_FEW) if len(it.found) >= SEEDS else TOO_FEW
                kinds.setdefault(does, []).append(f"{_name(it, rows)} ({_decades(it)})")
        said = [f"{does} in {listed(sorted(names))}" for does, names in kinds.items()]
        parts += [f"{words} it {', '.join(said)}"] if said else []
    if not parts:
        return "Not measured."
    reach = max(it.fall_at or 0 for it in rows)
    compared = [f"{_decades(it)} {WHEN[it.when]}" for it in others]
    for name in dict.fromkeys(_name(it, others) for it in others):
        mine = [text for it, text in zip(others, compared, strict=True) if _name(it, others) == name]
        parts.append(f"in a {name}, where no state is multiplied, {' and '.join(mine)}")
    return f"The gradient over {reach} steps, in decades down or up: {'; '.join(parts)}."


def _decades(it: Summary) -> str:
    """``down 9.4``, ``up at least 12``."""
    fall = it.fall.value
    if math.isnan(fall):
        return "unknown"
    return f"{'up' if fall < 0 else 'down'} {'at least ' if it.fall_is_least else ''}{rounded(abs(fall), 2)}"


def _name(it: Summary, rows: Sequence[Summary]) -> str:
    several = len({row.initialisation for row in rows if row.model == it.model}) > 1
    return f"{title(it.model)} ({it.initialisation})" if several else title(it.model)


def _recall(rows: Sequence[Summary]) -> list[Aside]:
    """How well trained nets answer over distances at which the gradient may have vanished."""
    return [
        Aside(
            f"{_name(it, rows)}: {_score(it)} over {it.options['length']} steps, with the gradient {_decades(it)} "
            f"decades at k = {it.fall_at}",
            [one.folder for one in it.found],
        )
        for it in rows
        if it.when == "trained" and not math.isnan(it.score_at_length.value)
    ]


def _score(it: Summary) -> str:
    """Its interval ends where scores do."""
    score = it.score_at_length
    return interval_text(score._replace(high=min(score.high, 1.0)), digits=2)


def _half_lives(rows: Sequence[Summary]) -> list[Aside]:
    lines = []
    for it in rows:
        half, seeds = it.half_life, [one.folder for one in it.found]
        known = interval_text(half, "steps") if math.isfinite(half.value) else "none"
        if not math.isnan(half.value):
            fall = f"{_decades(it)} decades at k = {it.fall_at}"
            text = f"{_name(it, rows)} {WHEN[it.when]}: {fall}; half-life {known}; {it.explosion.value:.0%} of samples"
            lines.append(Aside(text, seeds))
    return lines
