"""Claim 6: what of a step is serial. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqbench.claims.claim import Aside, Asides, Claim, machine
from seqbench.claims.names import ATTENTION, LSTM, RECURRENT, title
from seqbench.claims.verdict import Condition
from seqbench.probes import Found
from seqbench.report.text import interval_text, listed, rounded
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
        [_hidden(found)],
    )


def _serial_statement(found: Sequence[Found]) -> str:
    for one in found:
        first, last = one.result["lengths"][0], one.result["lengths"][-1]
        kept = [f"{_title(model)} {_kept(one, model)}" for model in RECURRENT if model in one.result["change"]]
        if kept:
            sizes = listed([f"{int(tokens):,}" for tokens in one.result["tokens"]])
            return (
                f"In training steps of {sizes} tokens (torch's kernels, {machine(one)}), sequences of {last:,} steps "
                f"instead of {first:,} leave {listed(kept)} of the tokens per second; {_serial_times(one)}."
            )
    return "Not measured."


def _title(model: str) -> str:
    return f"{'an' if model == LSTM else 'a'} {title(model)}"


def _kept(one: Found, model: str) -> str:
    """Shares at each number of tokens, with intervals."""
    changes = one.result["change"][model].values()
    return " and ".join(interval_text(_figure(change), digits=2) for change in changes)


def _serial_times(one: Found) -> str:
    """``what of a step no batch hides takes 78 µs (70 to 86) in a plain RNN and ...``; who can't be told, last."""
    known, small, unknown = [], [], []
    for model in (it for it in (*RECURRENT, ATTENTION) if it in one.result["fit"]):
        fit = one.result["fit"][model]
        if fit is None or not fit["trusted"]:
            unknown.append(_title(model))
        elif (s := _microseconds(fit)).low > 0:
            known.append(f"{interval_text(s, 'µs', 2)} in {_title(model)}")
        else:
            small.append(f"{_title(model)} (at most {rounded(s.high, 2)} µs)")
    known += [f"too little to measure in {listed(small)}"] if small else []
    said = [f"what of a step no batch hides takes {listed(known)}"] if known else []
    said += [f"the serial time of a step can't be told for {listed(unknown)}"] if unknown else []
    return "; ".join(said)


def _figure(limits: Sequence[float | None]) -> Interval:
    return Interval(*(math.nan if x is None else x for x in limits))


def _microseconds(fit: Mapping[str, Any]) -> Interval:
    """The serial time of a step; no upper limit is infinite."""
    low, high = (math.inf if limit is None else limit * 1e6 for limit in fit["s"][1:])
    return Interval(fit["s"][0] * 1e6, low, high)


def _serial(one: Found, model: str) -> Condition:
    """The serial time of a step, of which an interval that reaches 0 tells nothing for a recurrent layer."""
    fit, recurrent = one.result["fit"].get(model), model != ATTENTION
    axes, region = {"model": model, "measure": "serial time of a step"}, "above 0" if recurrent else "may be 0"
    if fit is None:
        unknown = Interval(math.nan, math.nan, math.nan)
        return Condition(axes, unknown, "µs", None, region, [one.folder], f"{title(model)}: {NO_FIT}")
    figure = _microseconds(fit)
    side: bool | None = figure.low == 0
    if recurrent:
        side = True if figure.low > 0 else (False if figure.high == 0 else None)
    known = Condition(axes, figure, "µs", side, region, [one.folder])
    return known.if_known(fit["trusted"], f"{title(model)}: {UNTRUSTED}")


def _slower(one: Found, model: str) -> list[Condition]:
    conditions = []
    for tokens, change in one.result["change"][model].items() if model != ATTENTION else ():
        figure = _figure(change)
        axes = {"model": model, "measure": f"tokens per second, {int(tokens):,} a step"}
        conditions.append(Condition.of(axes, figure, "times", (0.0, SLOWER), f"at most {SLOWER:g}", [one.folder]))
    return conditions


def _hidden(found: Sequence[Found]) -> Asides:
    """The batch that hides the serial part, of fits that can be trusted."""
    said = []
    for one in found:
        for model, fit in one.result["fit"].items():
            if fit is None or not fit["trusted"]:
                continue
            value, low, high = (math.inf if x is None else x for x in fit["hidden_batch"])
            text = interval_text(Interval(value, low, high)) if math.isfinite(value) else "no batch hides it"
            said.append(Aside(f"{title(model)}: {text}", [one.folder]))
    return Asides("The batch at which the work takes as long as the serial part:", said)
