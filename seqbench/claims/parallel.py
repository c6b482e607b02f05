"""Claim 6: what of a step is serial. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqbench.claims.claim import Claim, figure_text, rounded
from seqbench.claims.names import ATTENTION, RECURRENT, title
from seqbench.claims.verdict import Condition
from seqbench.probes import Found
from seqbench.stats import Interval

__all__ = ["recurrence_serial"]

SLOWER = 0.8  # of the tokens per second at the shortest length
NO_FIT = "the shapes can't tell the terms of the fit apart"
UNTRUSTED = "the fit misses shapes that were left out by more than 15%: no verdict from it"


def recurrence_serial(found: Sequence[Found]) -> Claim:
    """Claim 6."""
    conditions = []
    for one in found:
        for model in one.result["models"]:
            if model in (*RECURRENT, ATTENTION):
                conditions += [_serial(one, model), *_slower(one, model)]
    return Claim(
        6,
        "Recurrence can't be parallelised: time grows with length.",
        "Vaswani et al. 2017 and texts since",
        "training steps at a constant number of tokens, from many short sequences to few long ones; a fit of the time "
        "to a + s T + w B T + q B T^2, in which only s is serial; true of a recurrent layer if s is above 0 and its "
        "tokens per second fall by a fifth at least from the shortest to the longest, of attention if its s may be 0",
        _serial_statement(found),
        conditions,
        _hidden(found),
    )


def _serial_statement(found: Sequence[Found]) -> str:
    said = []
    for one in found:
        first, last = one.result["lengths"][0], one.result["lengths"][-1]
        for model in RECURRENT:
            if model in one.result["change"]:
                ends = [rounded(change[0]) for change in one.result["change"][model].values()]
                said.append(f"{title(model)} {' and '.join(dict.fromkeys(ends))}")
        if said:
            sizes = " and ".join(f"{int(tokens):,}" for tokens in one.result["tokens"])
            return (
                f"Tokens per second in sequences of {last:,} steps over those of {first:,}, at {sizes} tokens a step "
                f"({one.case.device}): {', '.join(said)}."
            )
    return "Not measured."


def _serial(one: Found, model: str) -> Condition:
    """The serial time of a step, of which an interval that reaches 0 tells nothing for a recurrent layer."""
    fit, recurrent = one.result["fit"].get(model), model != ATTENTION
    axes, region = {"model": model, "measure": "serial time of a step"}, "above 0" if recurrent else "may be 0"
    if fit is None:
        unknown = Interval(math.nan, math.nan, math.nan)
        return Condition(axes, unknown, "µs", None, region, [one.folder], f"{title(model)}: {NO_FIT}")
    low, high = (math.inf if limit is None else limit * 1e6 for limit in fit["s"][1:])
    figure = Interval(fit["s"][0] * 1e6, low, high)
    side: bool | None = figure.low == 0
    if recurrent:
        side = True if figure.low > 0 else (False if figure.high == 0 else None)
    known = Condition(axes, figure, "µs", side, region, [one.folder])
    return known.if_known(fit["trusted"], f"{title(model)}: {UNTRUSTED}")


def _slower(one: Found, model: str) -> list[Condition]:
    conditions = []
    for tokens, change in one.result["change"][model].items() if model != ATTENTION else ():
        figure = Interval(*(math.nan if x is None else x for x in change))
        axes = {"model": model, "measure": f"tokens per second, {int(tokens):,} a step"}
        conditions.append(Condition.of(axes, figure, "times", (0.0, SLOWER), f"at most {SLOWER:g}", [one.folder]))
    return conditions


def _hidden(found: Sequence[Found]) -> list[str]:
    """The batch that hides the serial part, of fits that can be trusted."""
    said = []
    for one in found:
        for model, fit in one.result["fit"].items():
            if fit is None or not fit["trusted"]:
                continue
            value, low, high = (math.inf if x is None else x for x in fit["hidden_batch"])
            said.append(
                f"{title(model)} {figure_text(Interval(value, low, high))}"
                if math.isfinite(value)
                else f"{title(model)}: no batch hides it"
            )
    return [f"The batch at which the work takes as long as the serial part: {'; '.join(said)}."] if said else []
