"""What a reader sees of `probe cost`: a line, tables and a figure, from results as records hold them. No torch.

A result's keys: ``backend``, ``track``, ``reference``, ``shapes`` ([B, T]), ``repeats``, ``dtype``; ``models`` with
``width``, ``params`` (mixer and readout), ``params_mixer``, ``flops_per_token`` (forward) and ``state_size`` (floats),
the last two at ``counted_at`` steps; ``seconds`` of a step by model and kind (forward or train), a list of repeats for
each shape, and on CUDA ``event_seconds``, medians of the device's own clock; ``widths``: seconds by width at
``width_shape``; ``fit`` (see `fit.fit_times`); ``ratios`` to the reference, [geometric mean, low, high], over all
shapes and ``by_shape``; ``peak_bytes`` of a training step at each shape, beyond weights and inputs, None where it was
not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from seqbench.board.frame import DARK, GREY, Look, finish
from seqbench.probes import Found
from seqbench.probes.timing_view import between, keys, length_axis, model_looks, nothing, pick, plain_log, spread
from seqbench.report.text import NONE, short

__all__ = ["cost_headline", "cost_table", "draw_costs"]

TEXTBOOK = 4.0  # an LSTM's weights over a plain RNN's, and by many a text its cost
TRACKS = {"width": "equal width", "params": "equal parameters"}
Result = Mapping[str, Any]


def cost_headline(result: Result) -> str:
    """Training time as a multiple of the reference's."""
    ratios = [f"{name} {one['train'][0]:.2f}x" for name, one in result["ratios"].items()]
    return f"training time over {result['reference']}'s: {', '.join(ratios)}" if ratios else "nothing to compare with"


def cost_table(found: Sequence[Found]) -> str:
    """One table a case, and what to make of it."""
    return "\n\n".join(_table(one) for one in found if one.result)


def _title(one: Found) -> str:
    result = one.result
    width = one.case.options["hidden"]
    return (
        f"{result['backend']} at {TRACKS[result['track']]} "
        f"({result['reference']} {width} wide), {one.case.device}, {one.case.threads} thread"
        + ("s" if one.case.threads > 1 else "")
    )


def _table(one: Found) -> str:
    result = one.result
    rows = [_row(name, result) for name in sorted(result["models"], key=lambda name: _ratio(name, result, "train"))]
    fits = [row for name in result["models"] for row in _fit_rows(name, result)]
    lines = [
        f"Cost: {_title(one)}, {result['repeats']} repeats",
        tabulate(rows, headers="keys", tablefmt="github"),
        f"time/ratio: geometric mean over {len(result['shapes'])} shapes, 95% interval over repeats. FLOPs (forward, a "
        f"token) and state (floats) at {result['counted_at']} steps.",
    ]
    if result["widths"]:
        batch, length = result["width_shape"]
        lines += ["", f"Training step by width, ms (batch {batch}, length {length}):", _widths(result)]
    if fits:
        lines += ["", tabulate(fits, headers="keys", tablefmt="github"), _reading(result)]
    return "\n".join(lines)


def _row(name: str, result: Result) -> dict[str, str]:
    about, base = result["models"][name], result["models"][result["reference"]]
    ratio = result["ratios"].get(name)
    count = about["flops_per_token"]
    return {
        "model": name + ("" if ratio else " (reference)"),
        "width": str(about["width"]),
        "parameters": f"{about['params_mixer']:,} ({about['params_mixer'] / max(1, base['params_mixer']):.2f}x)",
        "FLOPs": NONE if count is None else f"{count:,.0f}",
        "state": f"{about['state_size']:,}",
        "forward time": between(ratio["forward"]) if ratio else "1",
        "training time": between(ratio["train"]) if ratio else "1",
    }


def _widths(result: Result) -> str:
    """Medians over repeats."""
    rows = [
        {"model": name}
        | {
            width: f"{1e3 * spread(of[name]['train'])[0]:.3g}" if name in of else NONE
            for width, of in result["widths"].items()
        }
        for name in result["models"]
    ]
    return tabulate(rows, headers="keys", tablefmt="github")


def _ratio(name: str, result: Result, kind: str) -> float:
    return float(result["ratios"][name][kind][0]) if name in result["ratios"] else 1.0


def _fit_rows(name: str, result: Result) -> list[dict[str, str]]:
    rows = []
    for kind, fit in result["fit"][name].items():
        if fit is not None:
            rows.append(
                {
                    "model": name,
                    "step": kind,
                    "a, us": between(fit["a"], ".3g", 1e6),
                    "s, us a step": between(fit["s"], ".3g", 1e6),
                    "w, us a token": between(fit["w"], ".3g", 1e6),
                    "q, ns a pair": between(fit["q"], ".3g", 1e9),
                    "B* = s/w": between(fit["hidden_batch"]),
                    "held out": f"{fit['residual'][1]:.1%}" + ("" if fit["trusted"] else " (not trusted)"),
                }
            )
    return rows


def _reading(result: Result) -> str:
    """What the fits say of the serial part."""
    serial: list[str] = []
    free: list[str] = []
    unsure: list[str] = []
    for name, kinds in result["fit"].items():
        fit = kinds["train"]
        if fit is None or not fit["trusted"]:
            unsure.append(name)
        else:
            (serial if fit["s"][1] else free).append(name)
    parts = [
        f"a serial part in training: {', '.join(serial)}" if serial else "",
        f"none to be seen: {', '.join(free)}" if free else "",
        f"not to be told (held-out residual above 15%): {', '.join(unsure)}" if unsure else "",
    ]
    return "t = a + s T + w B T + q B T^2; " + "; ".join(part for part in parts if part) + "."


def draw_costs(found: Sequence[Found], path: Path) -> Path:
    """A row of panels for each case: time against length, ratios, memory against length."""
    from matplotlib.figure import Figure

    shown = [one for one in found if one.result]
    known = model_looks(name for one in shown for name in one.result["models"])
    height = 1.6 + 3.5 * max(1, len(shown))
    figure = Figure(figsize=(13.5, height), dpi=120, layout="constrained")
    panels = figure.subplots(max(1, len(shown)), 3, squeeze=False)
    for row, one in zip(panels, shown, strict=False):
        _times(row[0], one, known)
        _ratios(row[1], one, known)
        _memory(row[2], one, known)
    if not shown:
        for axes in panels.flat:
            nothing(axes, "no case was measured")
    notes = [
        "A training step without its optimiser: gradients cleared, forward, backward. Points: medians over repeats, "
        "bars from the least to the greatest; ratios: geometric means over all shapes with 95% intervals over repeats.",
        "Times belong to one backend, device, type of number and thread count; kernel and loop are not to be compared.",
    ]
    finish(figure, "What a layer costs", keys(known), notes)
    figure.savefig(path)
    return path


def _batch(result: Result) -> int:
    """The largest batch that has every length."""
    lengths = {length for _, length in result["shapes"]}
    return max(int(b) for b, _ in result["shapes"] if len(pick(result["shapes"], b)) == len(lengths))


def _times(axes: Any, one: Found, known: Mapping[str, Look]) -> None:
    result = one.result
    batch = _batch(result)
    places = pick(result["shapes"], batch)
    for name, kinds in result["seconds"].items():
        look = known[name]
        marks = [spread(kinds["train"][i]) for i, _ in places]
        middle = [1e3 * value for value, _, _ in marks]
        bars = [[1e3 * (v - low) for v, low, _ in marks], [1e3 * (high - v) for v, _, high in marks]]
        axes.errorbar([t for _, t in places], middle, yerr=bars, color=look.colour, marker=look.marker, ms=4,
                      linewidth=1.2, elinewidth=0.8, capsize=2)  # fmt: skip
    plain_log(axes)
    length_axis(axes, [t for _, t in places])
    axes.set(xlabel="length T, steps", ylabel=f"ms a training step, batch {batch}")
    axes.set_title(short(_title(one), 75), fontsize=9, loc="left")


def _ratios(axes: Any, one: Found, known: Mapping[str, Look]) -> None:
    result = one.result
    names = sorted(result["ratios"], key=lambda name: _ratio(name, result, "train"))
    if not names:
        return nothing(axes, "nothing to compare with")
    for i, name in enumerate(names):
        for kind, shift, fill in (("train", -0.13, 1.0), ("forward", 0.13, 0.35)):
            value, low, high = result["ratios"][name][kind]
            axes.barh(i + shift, value, 0.24, color=known[name].colour, alpha=fill, linewidth=0)
            axes.errorbar(
                [value], [i + shift], xerr=[[value - low], [high - value]], color=DARK, elinewidth=1, capsize=2
            )
        axes.text(
            0.02, i + 0.29, _counts(name, result), transform=axes.get_yaxis_transform(), fontsize=7, color=GREY,
            va="top", bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},
        )  # fmt: skip
    axes.axvline(1, color=DARK, linewidth=1)
    axes.axvline(TEXTBOOK, color=DARK, linewidth=1, linestyle="--")
    axes.text(TEXTBOOK, -0.5, " textbook: 4x", fontsize=7.5, color=DARK, va="bottom")
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=8)
    top = max(
        TEXTBOOK, *(x for name in names for kind in ("train", "forward") for x in result["ratios"][name][kind][:1])
    )
    axes.set(ylim=(len(names) - 0.4, -0.75), xlim=(0, 1.25 * top))
    axes.set_xlabel(f"time over {short(result['reference'])}'s: full training, pale forward alone")
    axes.set_title("mean ratio over all shapes", fontsize=9, loc="left")
    axes.tick_params(axis="y", length=0)
    return None


def _counts(name: str, result: Result) -> str:
    mine, base = result["models"][name], result["models"][result["reference"]]
    text = f"parameters {mine['params_mixer'] / max(1, base['params_mixer']):.2f}x"
    if mine["flops_per_token"] and base["flops_per_token"]:
        text += f", FLOPs {mine['flops_per_token'] / base['flops_per_token']:.2f}x at T={result['counted_at']}"
    return text


def _memory(axes: Any, one: Found, known: Mapping[str, Look]) -> None:
    result = one.result
    batch = _batch(result)
    places = pick(result["shapes"], batch)
    drawn = False
    for name, sizes in result["peak_bytes"].items():
        points = [(t, sizes[i] / 2**20) for i, t in places if sizes[i]]
        if points:
            drawn = True
            axes.plot(
                *zip(*points, strict=True), color=known[name].colour, marker=known[name].marker, ms=4, linewidth=1.2
            )
    if not drawn:
        return nothing(axes, "peak memory: the device does not tell")
    plain_log(axes)
    length_axis(axes, [t for _, t in places])
    axes.set(xlabel="length T, steps", ylabel=f"peak MiB of a training step, batch {batch}")
    axes.set_title("memory beyond weights and inputs", fontsize=9, loc="left")
    return None
