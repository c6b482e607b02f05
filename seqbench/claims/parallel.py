"""Claim 6: what of a training step is serial."""

from __future__ import annotations

import math
from collections.abc import Iterator

from seqbench.claims import Evidence, register_claim
from seqbench.claims.names import ATTENTION, COMPARED, RECURRENT, model_title
from seqbench.claims.rules import NOT_MEASURED, UNKNOWN, Aside, Claim, Condition
from seqbench.probes import Measured
from seqbench.probes.parallel import ParallelResult
from seqbench.probes.shared.fits import machine_text, open_interval
from seqbench.report.text import interval_text, listed, rounded

__all__ = ["recurrence_serial"]

SLOWER = 0.8  # of the tokens per second at the shortest length
NO_FIT = "the shapes can't tell the terms of the fit apart"
ONE_AT_A_TIME = (
    "a CPU does one thing after the other, whatever could be done at once: what recurrence hinders shows on a GPU "
    "(`claims --device cuda`, or `probe parallel --device cuda`)"
)
UNTRUSTED = "the fit misses shapes that were left out by more than 15%: no verdict from it"


@register_claim(6, needs={"parallel": ()})
def recurrence_serial(evidence: Evidence) -> Claim:
    """The serial time of each time step, and the tokens per second."""
    timings: list[Measured[ParallelResult]] = evidence.of("parallel")
    quoted = [one for one in timings if set(RECURRENT) & set(one.result.change)]
    return Claim(
        "Recurrence can't be parallelised: time grows with length.",
        "Vaswani et al. 2017 and texts since",
        "training steps at a constant number of tokens, from many short sequences to few long ones; a fit of the time "
        "to a + s T + w B T + q B T^2, in which only s is serial; true of a recurrent layer if s is above 0 and its "
        "tokens per second fall by a fifth at least from the shortest to the longest, of attention if its s may be 0; "
        "tested where much can be done at once, on a GPU",
        _statement(quoted[0]) if quoted else NOT_MEASURED,
        [
            condition
            for one in timings
            for model in one.result.models
            if model in COMPARED
            for condition in _conditions(one, model)  # on a CPU they are shown and decide nothing
        ],
        {"The batch at which the work takes as long as the serial part:": [a for one in timings for a in _hidden(one)]},
    )


def _statement(one: Measured[ParallelResult]) -> str:
    result = one.result
    kept = []
    for model in (model for model in RECURRENT if model in result.change):
        shares = [interval_text(change, digits=2) for change in result.change[model].values()]
        kept.append(f"{model_title(model, article=True)} {' and '.join(shares)}")
    sizes = listed([f"{tokens:,}" for tokens in result.tokens])
    return (
        f"In training steps of {sizes} tokens (torch's kernels, {machine_text(one.spec)}), sequences of "
        f"{result.lengths[-1]:,} steps instead of {result.lengths[0]:,} leave {listed(kept)} of the tokens per second; "
        f"{_serial_times(one)}."
    )


def _serial_times(one: Measured[ParallelResult]) -> str:
    """``however large the batch, each time step costs 78 µs (70 to 86) in a plain RNN``, who is unknown last."""
    known, small, unknown = [], [], []
    for model in (model for model in COMPARED if model in one.result.fit):
        fit, name = one.result.fit[model], model_title(model, article=True)
        if fit is None or not fit.trusted:
            unknown.append(name)
        elif (serial := open_interval(fit.s, 1e6)).low > 0:
            known.append(f"{interval_text(serial, 'µs', 2)} in {name}")
        else:
            small.append(f"{name} (at most {rounded(serial.high, 2)} µs)")
    known += [f"too little to measure in {listed(small)}"] if small else []
    said = [f"however large the batch, each time step costs {listed(known)}"] if known else []
    said += [f"the serial time of a step can't be told for {listed(unknown)}"] if unknown else []
    return "; ".join(said)


def _conditions(one: Measured[ParallelResult], model: str) -> Iterator[Condition]:
    """The serial time of a step, of which an interval that reaches 0 tells nothing for a recurrent layer; the speed."""
    fit, recurrent = one.result.fit[model], model != ATTENTION
    figure = UNKNOWN if fit is None else open_interval(fit.s, 1e6)
    inside: bool | None = figure.low == 0
    if recurrent:
        inside = True if figure.low > 0 else (False if figure.high == 0 else None)
    axes, region = {"model": model, "measure": "serial time of a step"}, "above 0" if recurrent else "may be 0"
    serial = Condition(axes, figure, "µs", inside, region, [one.folder])
    why, parallel = NO_FIT if fit is None else UNTRUSTED, one.spec.device != "cpu"
    known = serial.if_known(fit is not None and fit.trusted, f"{model_title(model)}: {why}")
    yield known.if_tested(parallel, ONE_AT_A_TIME)
    for tokens, change in one.result.change[model].items() if recurrent else ():
        axes = {"model": model, "measure": f"tokens/s in steps of {int(tokens):,}"}
        speed = Condition.of(axes, change, "times", (0.0, SLOWER), records=[one.folder])
        yield speed.if_tested(parallel, ONE_AT_A_TIME)


def _hidden(one: Measured[ParallelResult]) -> Iterator[Aside]:
    """The batch that hides the serial part, of fits that can be trusted."""
    for model, fit in one.result.fit.items():
        if fit is not None and fit.trusted:
            batch = open_interval(fit.hidden_batch)
            shown = interval_text(batch) if math.isfinite(batch.value) else "no batch hides it"
            yield Aside(f"{model_title(model)}: {shown}", [one.folder])
