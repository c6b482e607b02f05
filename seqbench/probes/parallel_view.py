"""What a reader sees of `probe parallel`: a line, a table and a figure, from results as records hold them. No torch.

A result's keys: ``tokens`` (N a batch), ``lengths``, ``shapes`` ([B, T], B = N / T rounded down, by tokens, then by
lengths), ``repeats``, ``dtype``; ``models`` as in `cost_view`; by model and then by N: ``seconds`` of a training
step (a list of repeats for each length), ``tokens_per_second`` (medians), ``change`` of it from the shortest to the
longest ([geometric mean of ratios within repeats, low, high]), ``share`` of the peak for each length; ``fit`` by model
over all N (None with one N); ``peak_flops`` a second of a product of square matrices of ``peak_size``, [median, least,
greatest] of one reading a repeat; on CUDA ``event_seconds`` by model, medians for each shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from seqbench.board.frame import DARK, GREY, Look, finish
from seqbench.probes import Found
from seqbench.probes.timing_view import between, keys, length_axis, model_looks, nothing, plain_log, spread
from seqbench.report.text import NONE

__all__ = ["draw_parallel", "parallel_headline", "parallel_table"]

STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
FALL = 0.8  # of the speed: the rule for "falls at least 20%"
Result = Mapping[str, Any]


def parallel_headline(result: Result) -> str:
    """The change of speed from the shortest to the longest sequences."""
    n, lengths = str(result["tokens"][0]), result["lengths"]
    changes = [f"{name} {of[n][0]:.2f}x" for name, of in result["change"].items()]
    return f"tokens/s from T={lengths[0]} to {lengths[-1]} at {int(n):,} a batch: {', '.join(changes)}"


def parallel_table(found: Sequence[Found]) -> str:
    """One table a case, and what to make of it."""
    return "\n\n".join(_table(one) for one in found if one.result)


def _table(one: Found) -> str:
    result = one.result
    lengths = result["lengths"]
    rows = [_row(name, str(n), result) for name in result["models"] for n in result["tokens"]]
    peak = between(result["peak_flops"], ".3g", 1e-9)
    return "\n".join(
        [
            f"Parallelism: training at a constant number of tokens a batch, width {one.case.options['hidden']}, "
            f"{_machine(one)}, {result['repeats']} repeats",
            tabulate(rows, headers="keys", tablefmt="github"),
            f"change: tokens/s at T={lengths[-1]} over T={lengths[0]}, 95% interval over repeats.",
            f"Peak: {peak} GFLOP/s (median, least, greatest), a product of matrices, {result['peak_size']} wide, "
            "in the same run.",
            _reading(result),
        ]
    )


def _machine(one: Found) -> str:
    return f"{one.case.device}, {one.case.threads} thread" + ("s" if one.case.threads > 1 else "")


def _row(name: str, n: str, result: Result) -> dict[str, str]:
    speeds, shares, fit = result["tokens_per_second"][name][n], result["share"][name][n], result["fit"][name]
    first, last = result["lengths"][0], result["lengths"][-1]
    return {
        "model": name,
        "tokens a batch": f"{int(n):,}",
        f"tokens/s at T={first}": f"{speeds[0]:,.0f}",
        f"at T={last}": f"{speeds[-1]:,.0f}",
        "change": between(result["change"][name][n], ".2f"),
        f"share of peak at T={first}": NONE if shares[0] is None else f"{shares[0]:.0%}",
        f"at T={last} ": NONE if shares[-1] is None else f"{shares[-1]:.0%}",
        "s, us a step": NONE if fit is None else between(fit["s"], ".3g", 1e6),
        "B* = s/w": NONE if fit is None else between(fit["hidden_batch"]),
        "held out": NONE if fit is None else f"{fit['residual'][1]:.1%}" + ("" if fit["trusted"] else " (not trusted)"),
    }


def _reading(result: Result) -> str:
    """Who loses speed, and whether the serial time is why."""
    lines = []
    for name, fit in result["fit"].items():
        falls = [of[2] <= FALL for of in result["change"][name].values()]
        speed = "no loss of a fifth is certain"
        if any(falls):
            speed = f"loses a fifth of its speed or more{'' if all(falls) else ' at some numbers of tokens'}"
        lines.append(f"{name}: {speed}; {_why(fit)}.")
    return "\n".join(lines)


def _why(fit: Mapping[str, Any] | None) -> str:
    if fit is None:
        return "one number of tokens can't tell serial time from the square of the length"
    if not fit["trusted"]:
        return "its times do not follow the four terms, so no cause is given"
    parts = ["steps have a serial time" if fit["s"][1] else "no serial time to be seen"]
    if fit["q"][1]:
        parts.append("the work grows with the square of the length")
    return ", ".join(parts)


def draw_parallel(found: Sequence[Found], path: Path) -> Path:
    """A row of panels for each case: speed, serial share and share of the peak, against length."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = [one for one in found if one.result]
    known = model_looks(name for one in shown for name in one.result["models"])
    height = 1.7 + 3.7 * max(1, len(shown))
    figure = Figure(figsize=(13.5, height), dpi=120, layout="constrained")
    panels = figure.subplots(max(1, len(shown)), 3, squeeze=False)
    for row, one in zip(panels, shown, strict=False):
        for axes, draw in zip(row, (_speeds, _serial, _peaks), strict=True):
            draw(axes, one, known)
            length_axis(axes, one.result["lengths"])
            axes.set_xlabel("length T, steps; the batch shrinks as it grows")
    if not shown:
        for axes in panels.flat:
            nothing(axes, "no case was measured")
    tokens = sorted({n for one in shown for n in one.result["tokens"]})
    styles = [
        Line2D([], [], color=GREY, linestyle=STYLES[i % len(STYLES)], label=f"{n:,} tokens a batch")
        for i, n in enumerate(tokens)
    ]
    notes = [
        "A training step without its optimiser: gradients cleared, forward, backward. Points: medians over repeats; "
        "bars: least to greatest. Serial share: s T / t of the fit t = a + s T + w B T + q B T^2; band: 95% of s.",
        "Share of peak: FLOPs of a training step (three forward passes) a second, over those of a matrix product timed "
        "in the same run. Of masked attention all T^2 pairs are counted, those that a kernel skips too.",
    ]
    finish(figure, "Speed at a constant number of tokens a batch", [*keys(known), *styles], notes)
    figure.savefig(path)
    return path


def _style(result: Result, n: int) -> Any:
    return STYLES[result["tokens"].index(n) % len(STYLES)]


def _speeds(axes: Any, one: Found, known: Mapping[str, Look]) -> None:
    result = one.result
    for name, by_tokens in result["seconds"].items():
        look = known[name]
        for n, seconds in by_tokens.items():
            sizes = [b * t for b, t in result["shapes"] if b == int(n) // t]
            marks = [spread([size / x for x in of]) for size, of in zip(sizes, seconds, strict=False)]
            bars = [[v - low for v, low, _ in marks], [high - v for v, _, high in marks]]
            axes.errorbar(result["lengths"], [v for v, _, _ in marks], yerr=bars, color=look.colour, marker=look.marker,
                          ms=4, linewidth=1.2, elinewidth=0.8, capsize=2, linestyle=_style(result, int(n)))  # fmt: skip
    plain_log(axes)
    axes.set_ylabel("tokens a second, training")
    axes.set_title(f"speed; width {one.case.options['hidden']}, {_machine(one)}", fontsize=9, loc="left")


def _serial(axes: Any, one: Found, known: Mapping[str, Look]) -> None:
    """Share of the step's time that the fit calls serial; fits that are not trusted are left out and named."""
    result = one.result
    lengths, largest = result["lengths"], max(result["tokens"])
    left_out = [name for name, fit in result["fit"].items() if fit is None or not fit["trusted"]]
    for name, fit in result["fit"].items():
        if name in left_out:
            continue
        look, middles = known[name], [spread(of)[0] for of in result["seconds"][name][str(largest)]]
        value, low, high = ([min(1.0, s * t / m) for t, m in zip(lengths, middles, strict=True)] for s in fit["s"])
        axes.plot(lengths, value, color=look.colour, marker=look.marker, ms=4, linewidth=1.2,
                  linestyle=_style(result, largest))  # fmt: skip
        axes.fill_between(lengths, low, high, color=look.colour, alpha=0.12, linewidth=0)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(f"serial share of a step, {largest:,} tokens a batch")
    axes.set_title(
        "serial share" + (f" (no trusted fit: {', '.join(left_out)})" if left_out else ""), fontsize=9, loc="left"
    )


def _peaks(axes: Any, one: Found, known: Mapping[str, Look]) -> None:
    result = one.result
    most = 1.0
    for name, by_tokens in result["share"].items():
        look = known[name]
        for n, shares in by_tokens.items():
            points = [(t, share) for t, share in zip(result["lengths"], shares, strict=True) if share is not None]
            if points:
                most = max(most, *(share for _, share in points))
                axes.plot(*zip(*points, strict=True), color=look.colour, marker=look.marker, ms=4, linewidth=1.2,
                          linestyle=_style(result, int(n)))  # fmt: skip
    axes.axhline(1, color=DARK, linewidth=1)
    axes.text(0.01, 1, "matrix product", transform=axes.get_yaxis_transform(), fontsize=7.5, color=DARK, va="bottom")
    axes.set_ylim(0, 1.1 * most)
    axes.set_ylabel("share of the machine's peak")
    axes.set_title(f"peak {result['peak_flops'][0] / 1e9:,.3g} GFLOP/s in float32", fontsize=9, loc="left")
