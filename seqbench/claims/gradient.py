"""Claim 5: what gradients do with distance. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqbench.claims.claim import Claim, figure_text, rounded
from seqbench.claims.memory import FEW, SEEDS
from seqbench.claims.names import title
from seqbench.claims.verdict import Condition
from seqbench.leaderboard.text import listed
from seqbench.probes import Found
from seqbench.probes.gradient_view import VANISHED, WELL, Summary, behaviour, summaries

__all__ = ["gradients_vanish"]

SIDES = {"vanishes": True, "explodes": True, "neither": False}
NO_PRODUCT = "no state is multiplied step after step, so a rise or fall only says where it looks"
WHEN = {"start": "before training", "trained": "trained"}


def gradients_vanish(found: Sequence[Found]) -> Claim:
    """Claim 5."""
    rows = [it for it in summaries(found) if it.fall_at is not None]
    conditions = [
        Condition(
            {"model": it.model, "initialisation": it.initialisation, "when": it.when},
            it.fall,
            f"decades down from k = 1 to {it.fall_at}",
            SIDES.get(behaviour(it)),
            "a slope clear of 0 and 3 decades down or up",
            [one.folder for one in it.found],
            "" if it.found[0].result["state"] is not None else f"{_name(it, rows)} {WHEN[it.when]}: {NO_PRODUCT}",
            regions=((VANISHED, math.inf), (-math.inf, -VANISHED)),
            at_least=it.fall_is_least,
        ).if_known(len(it.found) >= SEEDS, FEW)
        for it in rows
    ]
    return Claim(
        5,
        "Gradients vanish or explode with distance.",
        "Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013",
        "the exact Jacobian of the last output by each input, in double precision, its norm for each sample, the "
        "median of the logarithms over samples, intervals over seeds; it vanishes if the slope against distance is "
        "below 0 and the norm falls 1,000-fold by k = 100, explodes likewise upward, and does neither if the slope "
        "would take more than 3,000 steps for that",
        _statement(rows),
        conditions,
        [line for line in (_forgetting(rows), _slopes(rows)) if line],
    )


def _statement(rows: Sequence[Summary]) -> str:
    """What it does in whom, with the decades by which it falls (negative: rises)."""
    parts = []
    for when, words in WHEN.items():
        kinds: dict[str, list[str]] = {}
        for it in rows:
            if it.when == when:
                least = "at least " if it.fall_is_least else ""
                kinds.setdefault(behaviour(it), []).append(f"{_name(it, rows)} ({least}{rounded(it.fall.value, 2)})")
        said = [f"{_does(kind)} in {listed(sorted(names))}" for kind, names in kinds.items()]
        parts += [f"{words} it {', '.join(said)}"] if said else []
    if not parts:
        return "Not measured."
    reach = max(it.fall_at or 0 for it in rows)
    return f"In decades that the gradient falls from 1 to {reach} steps back: {'; '.join(parts)}."


def _does(kind: str) -> str:
    return {"neither": "does neither", "in between": "is in between", "unknown": "can't be told from one seed"}.get(
        kind, kind
    )


def _name(it: Summary, rows: Sequence[Summary]) -> str:
    several = len({row.initialisation for row in rows if row.model == it.model}) > 1
    return f"{title(it.model)} ({it.initialisation})" if several else title(it.model)


def _forgetting(rows: Sequence[Summary]) -> str:
    """Vanishing is not forgetting: nets that answer right over distances at which the gradient has vanished."""
    said = [
        f"{_name(it, rows)} scores {rounded(it.score_at_length.value, 2)} on recall over {it.options['length']} steps, "
        f"and its gradient is {rounded(it.fall.value)} decades down at k = {it.fall_at}"
        for it in rows
        if it.score_at_length.value >= WELL and it.fall.value >= VANISHED
    ]
    return f"Vanishing is not forgetting (1 is all right, 0 guessing): {'; '.join(said)}." if said else ""


def _slopes(rows: Sequence[Summary]) -> str:
    said = [
        f"{_name(it, rows)} {WHEN[it.when]}: half-life {figure_text(it.half_life, 'steps')}, explosion share "
        f"{rounded(it.explosion.value, 2)}"
        for it in rows
        if it.half_life.value == it.half_life.value
    ]
    return f"Half-lives: {'; '.join(said)}." if said else ""
