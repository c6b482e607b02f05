"""What `probe gradient` shows: seeds together with intervals, a table, and one picture of all models. No torch.

Norms in records are natural logarithms; what is shown of them is in decades (log10), slopes and exponents stay natural.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from seqbench.probes import Found
from seqbench.report.text import NONE, listed
from seqbench.stats import Estimate, Interval

__all__ = ["Summary", "behaviour", "headline", "labels", "over_seeds", "summaries", "table", "taught"]

VANISHED = 3.0  # decades by which a norm has fallen that counts as vanished
NEAR = 100  # the distance within which it must
FLAT, FLAT_TO = math.log(10.0) / 1000, 199  # slopes that count as none, and how far they must have been followed
WELL = 0.9  # score from which a net answers right
VARIED = ("hidden", "layers", "backbone", "length", "samples")  # named where they differ


class Summary(NamedTuple):
    """All seeds of one model, initialisation and time of measuring, else alike.

    Intervals are Student's over seeds, 95%; NaN where a seed has no figure, their ends also where there is one seed.

    Attributes:
        model: its name.
        options: of the cases: ``when``, ``initialisation``, ``hidden``, ``layers``, ``backbone``, ``length``, ...
        device: on which it was measured.
        found: the cases, one a seed.
        slope: of the log norm against k = 1 ... ``slope_to``, natural log per step.
        slope_to: 100 at most; less where some seed's norm becomes zero before; 0 without slopes.
        slope_far: likewise to 200 at most.
        slope_far_to: its last k.
        half_life: ln 2 / -slope in steps; NaN unless the slope is negative, infinite where its interval holds 0.
        fall: log10 |J_1| / |J_k| at k = ``fall_at``, which is 100 or T - 1.
        fall_at: None where nothing is there.
        fall_is_least: some seed's norm is zero there, so that its fall is that to the least measurable norm.
        explosion: share of samples with |J_k| > 10 |J_1|, at the k where it is greatest.
        lyapunov: leading Lyapunov exponent, natural log per step.
        score: on recall at the last length trained on, 0 guessing and 1 all right; NaN at the start.
        score_at_length: on recall over the measured T steps, which it was not trained on.
    """

    model: str
    options: Mapping[str, Any]
    device: str
    found: tuple[Found, ...]
    slope: Interval
    slope_to: int
    slope_far: Interval
    slope_far_to: int
    half_life: Interval
    fall: Interval
    fall_at: int | None
    fall_is_least: bool
    explosion: Interval
    lyapunov: Interval
    score: Interval
    score_at_length: Interval

    @property
    def when(self) -> str:
        """``start`` or ``trained``."""
        return str(self.options["when"])

    @property
    def initialisation(self) -> str:
        """How the weights started."""
        return str(self.options["initialisation"])


def over_seeds(values: Iterable[float | None]) -> Interval:
    """Mean and 95% interval by Student's t over seeds; NaN if one is missing, as a mean of the rest would flatter."""
    known: Any = np.array([math.nan if value is None else value for value in values], dtype=float)
    spread = float(known.var(ddof=1)) / len(known) if len(known) > 1 else math.nan
    return Estimate(float(known.mean()), spread, 0.0, len(known) - 1.0).interval()


def summaries(found: Sequence[Found]) -> list[Summary]:
    """Cases that differ in their seed only taken together, in order of appearance."""
    groups: dict[str, list[Found]] = {}
    for one in found:
        of = json.dumps([one.case.models, one.case.device, one.case.options], sort_keys=True)
        groups.setdefault(of, []).append(one)
    return [_summary(tuple(group)) for group in groups.values()]


def _summary(found: tuple[Found, ...]) -> Summary:
    case, results = found[0].case, [one.result for one in found]
    slope = over_seeds(result["slope"] for result in results)
    trained = [result["trained"] or {} for result in results]
    return Summary(
        case.models[0],
        case.options,
        case.device,
        found,
        slope,
        min((result["slope_range"] or [1, 0])[1] for result in results),
        over_seeds(result["slope_far"] for result in results),
        min((result["slope_far_range"] or [1, 0])[1] for result in results),
        Interval(_half_life(slope.value), _half_life(slope.low), _half_life(slope.high)),
        over_seeds(result["fall"] for result in results),
        next((result["fall_at"] for result in results if result["fall_at"] is not None), None),
        any(result["fall_is_least"] for result in results),
        over_seeds(result["explosion_most"] for result in results),
        over_seeds(result["lyapunov"] for result in results),
        over_seeds(one.get("score") for one in trained),
        over_seeds(one.get("score_at_measured_length") for one in trained),
    )


def _half_life(slope: float) -> float:
    if math.isnan(slope):
        return math.nan
    return math.log(2.0) / -slope if slope < 0 else math.inf


def behaviour(it: Summary) -> str:
    """By the rule of the ledger, which takes intervals over seeds: all of them must be on one side.

    - ``vanishes``: slope below 0, and the norm falls 1,000-fold at least from k = 1 to 100;
    - ``explodes``: likewise upwards;
    - ``neither``: slope between -ln 10 / 1000 and ln 10 / 1000 per step up to k = 199 at least (1,000-fold in 3,000);
    - ``in between``: anything else; ``unknown``: no intervals.
    """
    slope, fall, far = it.slope, it.fall, it.slope_far
    if math.isnan(slope.low) or math.isnan(fall.low):
        return "unknown"
    if slope.high < 0 and fall.low >= VANISHED:
        return "vanishes"
    if slope.low > 0 and fall.high <= -VANISHED:
        return "explodes"
    if it.slope_far_to >= FLAT_TO and far.low > -FLAT and far.high < FLAT:
        return "neither"
    return "in between"


def headline(result: Mapping[str, Any]) -> str:
    """One case in a few words."""
    if result["slope"] is None:
        return "no gradient beyond its own step"
    words = [f"slope {result['slope']:+.3g} a step"]
    if result["half_life"] is not None:
        words.append(f"half-life {result['half_life']:.3g} steps")
    if result["fall"] is not None:
        words.append(f"{_fold(result['fall'])} by k = {result['fall_at']}")
    if result["trained"] and result["trained"]["score_at_measured_length"] is not None:
        words.append(f"recall {result['trained']['score_at_measured_length']:.2f} at {result['length']} steps")
    return ", ".join(words)


def _fold(decades: float) -> str:
    """``down 250-fold``, ``up 10^12-fold``, ``level``."""
    size = abs(decades)
    if size < 0.1:
        return "level"
    times = f"10^{size:.0f}" if size >= 6 else f"{float(f'{10**size:.2g}'):,.6g}"
    return f"{'down' if decades > 0 else 'up'} {times}-fold"


def labels(found: Sequence[Summary]) -> list[str]:
    """A name for each: the model, its initialisation unless that has no name of its own, and what differs."""
    varied = [name for name in VARIED if len({str(it.options[name]) for it in found}) > 1]
    names = []
    for it in found:
        words = [] if it.initialisation == "default" else [it.initialisation]
        words += [f"{name} {it.options[name]}" for name in varied]
        names.append(it.model + (f" ({', '.join(words)})" if words else ""))
    return names


def table(found: Sequence[Found]) -> str:
    """A line for each model, initialisation and time, what the columns mean, and what vanishing does not mean."""
    its = summaries(found)
    names = labels(its)
    at = sorted({it.fall_at for it in its if it.fall_at is not None})
    lengths = " or ".join(str(length) for length in sorted({it.options["length"] for it in its}))
    headers = ["model", "when", "seeds", "slope per step", "half-life", f"fall to k={at[-1] if at else NEAR}",
               "explodes", "Lyapunov", "so it", f"recall at {lengths}"]  # fmt: skip
    rows = [[name, it.when, len(it.found), *_cells(it)] for name, it in zip(names, its, strict=True)]
    lines = [
        tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True),
        "",
        "J_k is the Jacobian of the last output by the input k steps before, |J_k| its Frobenius norm, the median over",
        "samples; means over seeds with 95% intervals. Slope: of ln |J_k| from k = 1 to 100 at most; half-life: ln 2 /",
        "-slope, in steps; fall: log10 |J_1| / |J_k|, so 3 is 1,000-fold; explodes: share of samples with |J_k| > 10",
        "|J_1| at the worst k; Lyapunov: leading exponent of the state, natural log per step; recall: score of the",
        f"trained net over that many steps, {taught(its)}, 0 is guessing and 1 all right.",
        *_reasons(its, names),
        *(f"\n{sentence}" for sentence in remarks(its, names)),
    ]
    return "\n".join(lines)


def taught(its: Sequence[Summary]) -> str:
    """On what length of recall trained nets were trained."""
    longest = sorted({max(it.options["stages"]) for it in its if it.options["stages"]})
    return f"trained on at most {' or '.join(map(str, longest))}" if longest else "none trained"


def _cells(it: Summary) -> list[str]:
    half = "never" if it.half_life.value == math.inf else _shown(it.half_life, ".3g", ends=True)
    fall = ("≥ " if it.fall_is_least else "") + _shown(it.fall, "z.1f")
    score = _shown(it.score_at_length, ".2f") if it.when == "trained" else ""
    return [
        _shown(it.slope, "+z.4f"),
        half,
        fall,
        _shown(it.explosion, ".2f"),
        _shown(it.lyapunov, "+z.3f"),
        behaviour(it) if len(it.found) > 1 else NONE,
        score,
    ]


def _shown(value: Interval, pattern: str, *, ends: bool = False) -> str:
    """``-0.0123 ± 0.0004``, or with ``ends`` ``12 (11 to 13)``; the dash if there is none."""
    if not math.isfinite(value.value):
        return NONE
    text = format(value.value, pattern)
    if math.isnan(value.low):
        return text
    if ends:
        low, high = (format(end, pattern) if math.isfinite(end) else "never" for end in value[1:])
        return f"{text} ({low} to {high})"
    reach = format(value.high - value.value, pattern.lstrip("+z"))
    return f"{text} ± {reach}" if float(reach) else text


def _reasons(its: Sequence[Summary], names: Sequence[str]) -> list[str]:
    """Why some have no Lyapunov exponent, and what it means if such a curve rises."""
    why: dict[str, list[str]] = {}
    for it, name in zip(its, names, strict=True):
        reason = it.found[0].result["state_reason"]
        if reason and name not in why.setdefault(reason, []):
            why[reason].append(name)
    lines = [f"No state Jacobian for {listed(whom)}: {reason}." for reason, whom in why.items()]
    if any(it.found[0].result["state_reason"] and it.explosion.value > 0 for it in its):
        lines.append("Where such a model's |J_k| rises it looks there: that is no product of many steps.")
    return lines


def remarks(its: Sequence[Summary], names: Sequence[str]) -> list[str]:
    """Where a net answers right over T steps though its gradient has vanished long before."""
    found = []
    for it, name in zip(its, names, strict=True):
        score, T = it.score_at_length.value, it.options["length"]
        if score >= WELL and it.fall.value >= VANISHED:
            fall = _fold(it.fall.value)
            found.append(
                f"{name} scores {score:.2f} on recall over {T} steps, with |J| {fall} from k = 1 to {it.fall_at}"
            )
    return [f"Vanishing is not forgetting: {'; '.join(found)}."] if found else []
