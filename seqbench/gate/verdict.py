"""Which differences between two sides are real, and large enough to matter.

A benchmark is slower if a rank test over processes says so (p < .002) *and* the ratio of the times is at least the
factor (1.10): a test alone finds differences that nobody would notice, a factor alone finds noise. Memory is judged in
the same way. What lacks one side, or failed, is named and never left out.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from seqbench.errors import UserError
from seqbench.gate.timings import Timing, Timings
from seqbench.stats import rank_test, ratio_interval

__all__ = ["ALPHA", "BAD", "FACTOR", "Accepted", "Change", "Limits", "Verdict", "accept", "compare_times", "compared",
           "exit_code", "is_skipped", "look_alike", "not_used", "ordered", "renamed"]  # fmt: skip

ALPHA, FACTOR = 0.002, 1.10
MEMORY = "memory:"
SKIPPED = "skipped"  # what the reason begins with why a benchmark was not run
LEAST = 7  # processes on each side from which a rank test can fall below ALPHA
Kind = Literal["time", "memory", "quality"]
Verdict = Literal[
    "failed", "missing", "slower", "more memory", "worse", "not told", "open", "new", "faster", "less memory", "better",
    "same",
]  # fmt: skip
BAD = ("failed", "missing", "slower", "more memory", "worse")  # these stop a change, unless they are accepted
WORST_FIRST = (*BAD, "not told", "open", "new", "faster", "less memory", "better", "same")


@dataclass(frozen=True)
class Change:
    """One benchmark, or one model on one task, before and after.

    Attributes:
        before, after: seconds or bytes (the median over processes) or the mean of the metric; None where a side lacks
            it.
        ratio: of time or memory, after over before, with its 95% interval; NaN where there is none. For quality,
            ``low`` and ``high`` are the ends of the interval of the difference ``after - before``.
        p: of no difference; for quality adjusted by Holm.
        processes: how many figures each side has; for quality seeds.
        note: what a reader should know.
        accepted: the reason why a bad verdict is wanted.
    """

    kind: Kind
    name: str
    group: str
    before: float | None = None
    after: float | None = None
    unit: str = "s"
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    verdict: Verdict = "same"
    processes: tuple[int, int] = (0, 0)
    note: str = ""
    accepted: str | None = None

    @property
    def bad(self) -> bool:
        """Whether it stops the change."""
        return self.verdict in BAD and self.accepted is None


class Limits(NamedTuple):
    """A difference in time or memory counts if its p-value is below ``alpha`` and its ratio at least ``factor``."""

    alpha: float = ALPHA
    factor: float = FACTOR


# --- times -----------------------------------------------------------------------------------------------------------


def compare_times(
    base: Timings,
    head: Timings,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    failures: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> list[Change]:
    """Every benchmark of either side; ``failures`` of base and head say by name how benchmarks failed there."""
    called = renamed(base.samples.keys() - head.samples.keys(), _without(head.samples, base.samples))
    changes: list[Change] = []
    for name, after in head.samples.items():
        before = base.samples.get(called.get(name, name))
        if name in failures[1]:
            continue
        if before is None or name in failures[0]:
            why = failures[0].get(name)
            changes.append(_alone(after, "new", f"fails in the base: {why}" if why else ""))
        else:
            note = f"was {before.name}" if before.name != name else ""
            changes += _both(before, after, limits, note)
    known = {*head.samples, *called.values(), *failures[1]}
    new = [name for name in head.samples if name not in base.samples]
    changes += [
        _alone(sample, "missing", look_alike(name, new)) for name, sample in base.samples.items() if name not in known
    ]
    return changes + [_failed(name, why, base, failures[0].get(name)) for name, why in failures[1].items()]


def _without(samples: Mapping[str, Timing], others: Mapping[str, Timing]) -> dict[str, Timing]:
    return {name: sample for name, sample in samples.items() if name not in others}


def _failed(name: str, why: str, base: Timings, before: str | None) -> Change:
    """A benchmark that fails, or is skipped, in the head; what does so in the base, too, is nothing new."""
    group = base.samples[name].group if name in base.samples else ""
    if before is not None:
        return Change("time", name, group, note=f"on both sides: {why}")
    return Change("time", name, group, verdict="missing" if is_skipped(why) else "failed", note=why)


def is_skipped(why: str) -> bool:
    """Whether that is the reason of a benchmark that was not run, and not of one that failed."""
    return why.startswith(SKIPPED)


def renamed(gone: Iterable[str], new: Mapping[str, Timing]) -> dict[str, str]:
    """From names in ``new`` to those in ``gone``, as far as benchmarks say what they were called, or have only moved to
    another file.
    """
    left = set(gone)
    told = {name: old for name in sorted(new) for old in [new[name].formerly] if old in left}
    left -= set(told.values())
    for name in sorted(new.keys() - told.keys()):
        moved = [old for old in sorted(left) if _own_name(old) == _own_name(name)]
        if len(moved) == 1:
            told[name] = moved[0]
            left.discard(moved[0])
    return told


def _own_name(name: str) -> str:
    """Without the file."""
    return name.partition("::")[2] or name


def look_alike(name: str, new: Sequence[str]) -> str:
    """A hint at which of the ``new`` benchmarks one that vanished may be; nothing where none is alike."""
    close = difflib.get_close_matches(name, new, n=1, cutoff=0.75)
    return f"perhaps renamed to {close[0]}: say so by extra_info['formerly'] there" if close else ""


def _alone(sample: Timing, verdict: Verdict, note: str) -> Change:
    """A benchmark that only one side has."""
    seconds, count = float(np.median(sample.seconds)), len(sample.seconds)
    before, after = (None, seconds) if verdict == "new" else (seconds, None)
    processes = (0, count) if verdict == "new" else (count, 0)
    return Change("time", sample.name, sample.group, before, after, verdict=verdict, processes=processes, note=note)


def _both(before: Timing, after: Timing, limits: Limits, note: str) -> list[Change]:
    """Its time, and its memory where both sides have that."""
    time = _compared("time", after, before.seconds, after.seconds, limits)
    waits = _waits(before, after, time)
    changes = [replace(time, note=", ".join(filter(None, (note, waits, time.note))))]
    if before.memory and after.memory:
        changes.append(_compared("memory", after, before.memory, after.memory, limits))
    return changes


def _compared(kind: Kind, about: Timing, first: Sequence[float], second: Sequence[float], limits: Limits) -> Change:
    """One figure of a benchmark, judged."""
    p, (ratio, low, high) = rank_test(first, second), ratio_interval(first, second)
    real = p < limits.alpha
    verdict: Verdict = "same"
    note = ""
    if min(len(first), len(second)) < LEAST:
        verdict, note = "not told", f"at least {LEAST} processes are needed on each side"
    elif real and ratio >= limits.factor:
        verdict = "slower" if kind == "time" else "more memory"
    elif real and ratio <= 1 / limits.factor:
        verdict = "faster" if kind == "time" else "less memory"
    elif kind == "time" and high >= limits.factor:
        verdict, note = "open", f"too noisy to exclude a ratio of {high:.2f}"
    return Change(
        kind=kind,
        name=about.name,
        group=about.group,
        before=float(np.median(first)),
        after=float(np.median(second)),
        unit="s" if kind == "time" else "bytes",
        ratio=ratio,
        low=low,
        high=high,
        p=p,
        verdict=verdict,
        processes=(len(first), len(second)),
        note=note,
    )


def _waits(before: Timing, after: Timing, time: Change) -> str:
    """Where the time went, if a benchmark is slower although it computes no longer."""
    if time.verdict != "slower" or not before.computed or not after.computed or time.before is None:
        return ""
    more = (time.after or 0.0) - time.before
    computed = float(np.median(after.computed)) - float(np.median(before.computed))
    return "it waits: the processor works no longer than before" if computed < 0.3 * more else ""


# --- what is wanted --------------------------------------------------------------------------------------------------


class Accepted(NamedTuple):
    """A bad verdict that is wanted: which names (a pattern as in a shell), up to which ratio or difference, and why.

    A pattern that begins with ``memory:`` is about memory, others are about time and quality.
    """

    pattern: str
    most: float
    reason: str

    @classmethod
    def parse(cls, text: str) -> Accepted:
        """From ``PATTERN [up to X]: reason``.

        Raises:
            UserError: the text is of another form.
        """
        wanted = re.fullmatch(r"\s*(\S+?)(?:\s+up to\s+([0-9.]+))?\s*:\s+(\S.*?)\s*", text)
        try:
            most = float(wanted[2] or math.inf) if wanted else math.nan
        except ValueError:
            most = math.nan
        if wanted is None or math.isnan(most):
            raise UserError(
                f"{text.strip()!r} accepts nothing: write PATTERN up to X: REASON, as in "
                "'*training_step*lstm* up to 1.3: peepholes are new'."
            )
        return cls(wanted[1], most, wanted[3])

    def names(self, change: Change) -> bool:
        """Whether ``change`` is one that is meant, whatever its size."""
        pattern = self.pattern.removeprefix(MEMORY)
        if (self.pattern != pattern) != (change.kind == "memory"):
            return False
        # names hold brackets, which a pattern takes for a choice of letters
        return pattern in change.name or fnmatch.fnmatchcase(change.name, pattern)

    def covers(self, change: Change) -> bool:
        """Whether it is, and no larger than said."""
        if math.isinf(self.most):
            return True
        if change.before is None or change.after is None:
            return False  # what failed or vanished has no size
        size = abs(change.after - change.before) if change.kind == "quality" else change.ratio
        return size <= self.most


def accept(changes: Iterable[Change], wanted: Sequence[Accepted]) -> list[Change]:
    """The same, with the reason on each one that is bad, or can't be told, and is wanted."""
    judged = []
    for change in changes:
        meant = [each for each in wanted if change.verdict in (*BAD, "not told") and each.names(change)]
        reasons = [each.reason for each in meant if each.covers(change)]
        if reasons:
            change = replace(change, accepted=reasons[0])
        elif meant:
            note = f"accepted only up to {max(each.most for each in meant):g}"
            change = replace(change, note=f"{note}, {change.note}" if change.note else note)
        judged.append(change)
    return judged


def not_used(changes: Sequence[Change], wanted: Iterable[Accepted]) -> list[str]:
    """What is said of patterns that fit nothing, as those with a slip of the pen do."""
    return [
        f"{each.pattern!r} is accepted, but is the name of nothing here."
        for each in wanted
        if not any(each.names(change) for change in changes)
    ]


# --- all of them -----------------------------------------------------------------------------------------------------


def ordered(changes: Iterable[Change]) -> list[Change]:
    """Worst first: by verdict, what is accepted after what is not, then by size."""

    def place(change: Change) -> tuple[bool, int, float, str]:
        size = change.ratio if math.isfinite(change.ratio) else _relative(change)
        return not change.bad, WORST_FIRST.index(change.verdict), -size, change.name

    return sorted(changes, key=place)


def _relative(change: Change) -> float:
    """The size of a difference in quality, as a part of what it was."""
    if change.before is None or change.after is None or not change.before:
        return 0.0
    return abs(change.after / change.before - 1)


def compared(changes: Iterable[Change]) -> bool:
    """Whether anything was: there is something that both sides have."""
    return any(change.before is not None and change.after is not None for change in changes)


def exit_code(changes: Sequence[Change]) -> int:
    """3 if something got worse, 1 if something can't be told, 2 if nothing was compared, else 0."""
    if any(change.bad for change in changes):
        return 3
    if any(change.verdict == "not told" and change.accepted is None for change in changes):
        return 1
    return 0 if compared(changes) else 2
