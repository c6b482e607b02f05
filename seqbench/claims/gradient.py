"""Claim 5: what gradients do with distance. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqbench.claims.claim import Claim, figure_text, rounded
from seqbench.claims.names import title
from seqbench.claims.verdict import Condition
from seqbench.leaderboard.text import listed
from seqbench.probes import Found
from seqbench.probes.gradient_view import VANISHED, Summary, behaviour, summaries

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
            f"decades from k = 1 to {it.fall_at}",
            SIDES.get(behaviour(it)),
            "a slope clear of 0 and 3 decades down or up",
            [one.folder for one in it.found],
            "" if it.found[0].result["state"] is not None else f"{_name(it, rows)} {WHEN[it.when]}: {NO_PRODUCT}",
            regions=((VANISHED, math.inf), (-math.inf, -VANISHED)),
        )
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
    parts = []
    for when, words in WHEN.items():
        kinds: dict[str, list[str]] = {}
        for it in rows:
            if it.when == when:
                kinds.setdefault(behaviour(it), []).append(_name(it, rows))
        said = [f"{_does(kind)} in {listed(sorted(names))}" for kind, names in kinds.items()]
        parts += [f"{words} the gradient {', '.join(said)}"] if said else []
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else "Not measured."


def _does(kind: str) -> str:
    return {"neither": "does neither", "in between": "is in between", "unknown": "is unknown"}.get(kind, kind)


def _name(it: Summary, rows: Sequence[Summary]) -> str:
    several = len({row.initialisation for row in rows if row.model == it.model}) > 1
    return f"{title(it.model)} ({it.initialisation})" if several else title(it.model)


def _forgetting(rows: Sequence[Summary]) -> str:
    """Vanishing is not forgetting: what trained nets still answer right over distances at which gradients are gone."""
    found = [it for it in rows if it.when == "trained" and it.score_at_length.value == it.score_at_length.value]
    said = [
        f"{_name(it, rows)} scores {rounded(it.score_at_length.value, 2)} over {it.options['length']} steps while its "
        f"gradient has changed by a factor of 1e{-it.fall.value:+.1f} at k = {it.fall_at}"
        for it in found
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
