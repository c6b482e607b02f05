"""Each benchmark's level over many commits, chained from comparisons of two commits at a time.

Machines differ by more than what is looked for, so figures of two machines can't be compared. The two revisions of one
comparison were measured side by side on one machine, and their ratio holds anywhere. A level is therefore a product of
ratios: the first commit of a chain is 1, and ``level[head] = level[base] * ratio``.

```
a to b: 1.10        a     b           c     d       no file links c to a or b: a new chain starts, or, where
c to d: 0.90        1     1.10        1     0.90    the device is the same, absolute figures link it
```

Quality is the same on all machines: there the level is the metric itself. Nothing here needs torch or matplotlib.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StringConstraints, ValidationError

from seqbench.errors import UserError
from seqbench.gate.timings import COMPARISON, parse_json
from seqbench.report.chart import COLOURS, DARK, Axis, Chart, Dash, Line, Look, Mark, Panel, Points, Region, Rule
from seqbench.report.text import NONE, Section, counted, rounded, short
from seqbench.stats import Interval

__all__ = ["TREND_HEADERS", "Drift", "History", "Level", "Trend", "read_trend", "trend_charts", "trend_rows",
           "trend_section"]  # fmt: skip

SCHEMA_VERSION = 1
DRIFT = 1.10  # the least product of ratios that is told as a drift, or its inverse
PANELS = 12  # the most that one chart can show and still be read
NAMED = 4  # the most steps that a panel names: each takes a line above it
TREND_HEADERS = ("benchmark", "what", "commits", "last level", "steps", "drift")
WORSE, BETTER = ("slower", "more memory", "worse"), ("faster", "less memory", "better")
NORMAL = NormalDist()
UNKNOWN = Interval(math.nan, math.nan, math.nan)
Kind = Literal["time", "memory", "quality"]
Source = Literal["start", "side by side", "absolute"]
Figure = Annotated[float, Field(strict=True)]


# ---- what a file holds --------------------------------------------------------------------------------------------


class _Lenient(BaseModel):
    """Keys that are not known are passed over, as a trend needs only some; NaN and infinity are refused."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Revision(_Lenient):
    """One side of a comparison. ``changed``: a working tree with changes that are not committed."""

    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None
    name: str
    time: AwareDatetime | None
    changed: StrictBool


class _Row(_Lenient):
    """One benchmark. ``low`` and ``high`` are the ends of the 95% interval of ``ratio``, which is after by before."""

    kind: Kind
    name: str
    group: str
    before: Figure | None
    after: Figure | None
    unit: str
    ratio: Figure | None
    low: Figure | None
    high: Figure | None
    verdict: Literal["same", "slower", "faster", "more memory", "less memory", "worse", "better", "missing", "new",
                     "failed", "open", "not told"]  # fmt: skip
    accepted: str | None

    @property
    def links(self) -> bool:
        """Whether it says how the head's level follows from the base's."""
        if self.kind == "quality":
            return self.before is not None and self.after is not None
        return self.ratio is not None and self.ratio > 0

    @property
    def relative(self) -> Interval:
        """The ratio with its interval, NaN where it is not known; quality has none, as a metric may be negative."""
        if self.kind == "quality" or not self.links or self.ratio is None:
            return UNKNOWN
        if self.low is None or self.high is None or not 0 < self.low <= self.ratio <= self.high:
            return Interval(self.ratio, math.nan, math.nan)
        return Interval(self.ratio, self.low, self.high)


class _File(_Lenient):
    """A comparison of two revisions on one machine."""

    schema_version: Annotated[int, Field(strict=True, ge=1, le=SCHEMA_VERSION)]
    base: _Revision
    head: _Revision
    device: str
    rows: tuple[_Row, ...]


def _read(path: Path) -> _File:
    raw = parse_json(path)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        said = f"{path} has schema version {short(version)}"
        raise UserError(f"{said}; this seqbench reads up to {SCHEMA_VERSION}: update it.")
    try:
        return _File.model_validate(raw)
    except (ValidationError, OverflowError) as error:
        first: Any = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"])) or "top level"
        raise UserError(f"{path} is not a valid comparison: {where}: {first['msg']}.") from None


# ---- what follows from all of them --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """A benchmark at one commit.

    Attributes:
        value: relative to the first commit of its chain, which is 1; of quality the metric itself.
        source: how it is known: it starts a chain, was measured side by side with ``origin``, or is linked to it by
            absolute figures of one device, which says less, as a machine is not always equally fast.
        origin: the commit that it is linked to; None where a chain starts.
        ratio: to the level of ``origin``, with its 95% interval; NaN where it is not known.
        figure: as measured, in the unit of the benchmark; NaN where it is not known.
        device: where that was.
        verdict: of the comparison; empty for a commit that was only a base.
        accepted: why somebody accepted the step; empty where nobody did.
    """

    commit: str
    value: float
    source: Source
    origin: str | None
    ratio: Interval
    figure: float
    device: str
    verdict: str = ""
    accepted: str = ""

    @property
    def step(self) -> bool:
        """Whether the comparison found a change."""
        return self.verdict in WORSE + BETTER


class Drift(NamedTuple):
    """Commits between which no single step was found, and yet the level went up or down; the interval of ``ratio`` is
    wide enough for all pairs of commits that were looked at.
    """

    first: str
    last: str
    ratio: Interval


@dataclass(frozen=True)
class History:
    """One benchmark over all commits, in their order. ``failed``: those at which it failed and has no level."""

    kind: Kind
    name: str
    group: str
    unit: str
    levels: Sequence[Level]
    failed: Sequence[str] = ()
    drifts: Sequence[Drift] = ()

    @property
    def steps(self) -> list[Level]:
        """The commits at which it changed."""
        return [level for level in self.levels if level.step]


@dataclass(frozen=True)
class Trend:
    """All benchmarks over ``commits`` (40 digits each), from the oldest; ``notes`` say what was left out."""

    commits: Sequence[str]
    histories: Sequence[History]
    notes: Sequence[str] = ()


def read_trend(directory: Path) -> Trend:
    """What all files ``regress.json`` below ``directory`` say together.

    Where two commits were compared more than once, the last file by its path counts, benchmark by benchmark.

    Raises:
        UserError: there is none, one is damaged or from a newer version, or none compares two commits.
    """
    paths = sorted(directory.rglob(COMPARISON))
    if not paths:
        raise UserError(f"there is no {COMPARISON} below {directory}: run `regress run --base REV --head REV` first.")
    found = [_read(path) for path in paths]
    usable, notes = _usable(found)
    if not usable:
        raise UserError(f"no {COMPARISON} below {directory} compares two commits: commit, and run `regress run` again.")
    times = {
        each.commit: each.time.astimezone(UTC)
        for file in usable
        for each in (file.base, file.head)
        if each.commit and each.time
    }
    commits = _ordered([_pair(file) for file in usable], times)
    order = {commit: i for i, commit in enumerate(commits)}
    forth = [file for file in usable if order[_pair(file)[0]] < order[_pair(file)[1]]]
    if late := len(usable) - len(forth):
        notes.append(f"Left out, as their base is the later commit: {counted(late, 'file')}.")
    if len({_pair(file) for file in forth}) < len(forth):
        notes.append("Of commits that were compared more than once, the last file by its path counts.")
    last = {(row.kind, row.name): row for file in forth for row in file.rows}
    histories = [_history(row, forth, order) for row in last.values()]
    kinds = ("time", "memory", "quality")
    return Trend(commits, sorted(histories, key=lambda each: (kinds.index(each.kind), each.name)), notes)


def _pair(file: _File) -> tuple[str, str]:
    """Base and head of a file that has both."""
    return file.base.commit or "", file.head.commit or ""


def _usable(files: Iterable[_File]) -> tuple[list[_File], list[str]]:
    """Those that compare two different commits, and what is said of the others."""
    usable, reasons = [], Counter[str]()
    for file in files:
        if any(each.changed or each.commit is None for each in (file.base, file.head)):
            reasons["as they measured what is not a commit, such as changes that are not committed"] += 1
        elif file.base.commit == file.head.commit:
            reasons["as they compare a commit with itself"] += 1
        else:
            usable.append(file)
    return usable, [f"Left out, {reason}: {counted(count, 'file')}." for reason, count in reasons.items()]


def _ordered(pairs: Sequence[tuple[str, str]], times: Mapping[str, datetime]) -> list[str]:
    """Commits by time; of those with the same time, as after a rebase, a base comes before its heads.

    A commit without a time stands beside one that it was compared with.
    """
    commits = dict.fromkeys(commit for pair in pairs for commit in pair)
    when, known = dict(times), -1
    while known < len(when):
        known = len(when)
        for base, head in pairs:
            for one, other in ((base, head), (head, base)):
                if one in when:
                    when.setdefault(other, when[one])
    bases = defaultdict(set)
    for base, head in pairs:
        bases[head].add(base)
    last = datetime.max.replace(tzinfo=UTC)
    order: list[str] = []
    for _, tied in groupby(sorted(commits, key=lambda c: when.get(c, last)), key=lambda c: when.get(c, last)):
        left = dict.fromkeys(tied)
        while left:
            order.append(min(left, key=lambda commit: len(bases[commit] & left.keys())))
            del left[order[-1]]
    return order


# ---- the chain of one benchmark -----------------------------------------------------------------------------------


class _Measured(NamedTuple):
    """A benchmark in one file."""

    base: str
    row: _Row
    device: str


def _history(latest: _Row, files: Sequence[_File], order: Mapping[str, int]) -> History:
    """One benchmark, whose names are those of its ``latest`` row."""
    by_head: dict[str, list[_Measured]] = defaultdict(list)
    for file in files:
        for row in file.rows:
            if (row.kind, row.name) == (latest.kind, latest.name):
                base, head = _pair(file)
                by_head[head].append(_Measured(base, row, file.device))
    levels: dict[str, Level] = {}
    failed = []
    for head in sorted(by_head, key=order.__getitem__):
        best = max(enumerate(by_head[head]), key=lambda each: (*_worth(each[1], levels, order), each[0]))[1]
        _add(levels, head, best)
        if head not in levels and any(each.row.verdict == "failed" for each in by_head[head]):
            failed.append(head)
    ordered = sorted(levels.values(), key=lambda level: order[level.commit])
    drifts = _drifts(ordered, order)
    return History(latest.kind, latest.name, latest.group, latest.unit, ordered, failed, drifts)


def _worth(measured: _Measured, levels: Mapping[str, Level], order: Mapping[str, int]) -> tuple[bool, bool, bool, int]:
    """Greater for what says more of its head: a link to a commit that has a level, any link, a figure; a late base."""
    row, base = measured.row, measured.base
    return row.links and base in levels, row.links, row.after is not None, order[base]


def _add(levels: dict[str, Level], head: str, measured: _Measured) -> None:
    """The level of ``head``, and that of its base where this has none yet; nothing where neither is known."""
    base, row, device = measured
    after, verdict, accepted = _figure(row.after), row.verdict, row.accepted or ""
    if row.links:
        if base not in levels:
            _anchor(levels, Level(base, 1.0, "start", None, UNKNOWN, _figure(row.before), device), row)
        value = after if row.kind == "quality" else levels[base].value * row.relative.value
        levels[head] = Level(head, value, "side by side", base, row.relative, after, device, verdict, accepted)
    elif row.after is not None:
        _anchor(levels, Level(head, 1.0, "start", None, UNKNOWN, after, device, verdict, accepted), row)


def _figure(value: float | None) -> float:
    return math.nan if value is None else value


def _anchor(levels: dict[str, Level], level: Level, row: _Row) -> None:
    """Add a level that no ratio links: by absolute figures to the last one of the same device, or as a new start."""
    last = next(reversed(levels.values()), None)
    value, linked = level.value, False
    if row.kind == "quality":
        value, linked = level.figure, last is not None
    elif last is not None and last.device == level.device and last.figure > 0 and level.figure > 0:
        value, linked = last.value * level.figure / last.figure, True
    source: Source = "absolute" if linked else "start"
    origin, parts = last.commit if last and linked else None, (level.ratio, level.figure, level.device)
    levels[level.commit] = Level(level.commit, value, source, origin, *parts, level.verdict, level.accepted)


def _drifts(levels: Sequence[Level], order: Mapping[str, int]) -> list[Drift]:
    """The greatest drifts that don't overlap: at least two links without a step, whose product is beyond `DRIFT`.

    Links are measured independently, so the variances of their log ratios add up. The intervals are as wide as keeps
    the risk of any false drift of this benchmark at 5%: so many pairs are looked at that plain 95% intervals would find
    one in noise alone (Bonferroni). A link without an interval ends the search: nobody knows how sure it is.
    """
    known = {level.commit: level for level in levels}
    sums: list[tuple[str, str, float, float]] = []
    for level in levels:
        at, links, total, variance = level, 0, 0.0, 0.0
        while at.origin is not None and not at.step and math.isfinite(at.ratio.low):
            total += math.log(at.ratio.value)
            variance += _variance(at.ratio)
            at, links = known[at.origin], links + 1
            if links > 1:
                sums.append((at.commit, level.commit, total, math.sqrt(variance)))
    if not sums:
        return []
    wide = NORMAL.inv_cdf(1 - 0.025 / len(sums))
    told = [each for each in sums if abs(each[2]) >= math.log(DRIFT) - 1e-12 and abs(each[2]) > wide * each[3]]
    kept: list[Drift] = []
    for first, last, total, error in sorted(told, key=lambda each: -abs(each[2])):
        if all(order[last] <= order[one.first] or order[one.last] <= order[first] for one in kept):
            kept.append(Drift(first, last, _product(total, wide * error)))
    return sorted(kept, key=lambda drift: order[drift.first])


def _variance(ratio: Interval) -> float:
    """Of the logarithm of a ratio whose 95% interval is known."""
    return (math.log(ratio.high / ratio.low) / (2 * NORMAL.inv_cdf(0.975))) ** 2


def _product(total: float, reach: float) -> Interval:
    """A product of ratios from the sum of their logarithms, which is uncertain by ``reach``."""
    return Interval(*(math.exp(min(end, 700.0)) for end in (total, total - reach, total + reach)))


# ---- as a table ---------------------------------------------------------------------------------------------------


def trend_section(trend: Trend) -> Section:
    """The table of `trend_rows` with what stands around it."""
    notes = [
        "A level is a product of ratios measured side by side, from the first commit of its chain, which is 1; "
        "of quality it is the metric. Its 95% interval grows along the chain, as the noise of all ratios adds up.",
        f"Drift: at least {DRIFT:.2f} times (or its inverse) over several commits of which none is a step by itself; "
        "its interval allows for all pairs of commits.",
    ]
    heading = f"{counted(len(trend.histories), 'benchmark')} over {counted(len(trend.commits), 'commit')}"
    return Section(heading, TREND_HEADERS, trend_rows(trend), [*notes, *trend.notes])


def trend_rows(trend: Trend) -> list[list[str]]:
    """A row for each benchmark with the cells of `TREND_HEADERS`, all of one line."""
    return [
        [
            short(history.name, 100),
            history.kind if history.kind != "quality" else short(history.unit),
            str(len(history.levels)),
            _last_level(history),
            "; ".join(_step_text(level, history) for level in history.steps) or NONE,
            "; ".join(map(_drift_text, history.drifts)) or NONE,
        ]
        for history in trend.histories
    ]


def _last_level(history: History) -> str:
    """Where it stands, and since when, as a level means nothing without its first commit.

    The interval grows along the chain; there is none where a link of it has none.
    """
    if not history.levels:
        return NONE
    known, last, variance = {level.commit: level for level in history.levels}, history.levels[-1], 0.0
    start = last
    while start.origin is not None:
        variance += _variance(start.ratio) if start.ratio.value > 0 else math.nan
        start = known[start.origin]
    if history.kind == "quality":
        return f"{rounded(last.value)}, first {rounded(start.value)} ({_id(start.commit)})"
    reach = NORMAL.inv_cdf(0.975) * math.sqrt(variance)
    level = (
        _product(math.log(last.value), reach) if last.value > 0 and reach > 0 else Interval(last.value, *UNKNOWN[1:])
    )
    return f"{_ratio_text(level)} since {_id(start.commit)}"


def _id(commit: str) -> str:
    return commit[:7]


def _step_text(level: Level, history: History) -> str:
    """``abc1234 slower: 1.200 times (1.180 to 1.220)``, and why it was accepted."""
    accepted = f", accepted: {short(level.accepted, 60)}" if level.accepted else ""
    return f"{_id(level.commit)} {level.verdict}: {_change(level, history, exact=True)}{accepted}"


def _change(level: Level, history: History, *, exact: bool = False) -> str:
    """How much it changed; of quality from where to where."""
    if history.kind == "quality":
        before = next((one.value for one in history.levels if one.commit == level.origin), math.nan)
        return f"{rounded(before, 4)} to {rounded(level.value, 4)}"
    return _ratio_text(level.ratio) if exact else f"{rounded(level.ratio.value)} times"


def _drift_text(drift: Drift) -> str:
    return f"{_ratio_text(drift.ratio)} from {_id(drift.first)} to {_id(drift.last)}"


def _ratio_text(ratio: Interval) -> str:
    """``1.200 times (1.180 to 1.220)``; the value alone where it is exact, or nobody knows how exact it is."""
    if math.isnan(ratio.value):
        return "unknown"
    exact = math.isnan(ratio.low) or ratio.low == ratio.high
    return f"{ratio.value:.3f} times" + ("" if exact else f" ({ratio.low:.3f} to {ratio.high:.3f})")


# ---- as charts ----------------------------------------------------------------------------------------------------


def trend_charts(trend: Trend) -> dict[str, Chart]:
    """A chart for each group of benchmarks, several of a large one, by a name that may stand in a file name.

    Every panel has all commits, so that those of one chart stand below each other.
    """
    groups: dict[str, list[History]] = defaultdict(list)
    for history in trend.histories:
        if history.levels:
            groups[history.group].append(history)
    charts: dict[str, Chart] = {}
    for group, histories in sorted(groups.items()):
        count = math.ceil(len(histories) / PANELS)
        size = math.ceil(len(histories) / count)
        for i in range(count):
            number = f"-{i + 1}" if count > 1 else ""
            part = f" ({i + 1} of {count})" if count > 1 else ""
            title = f"{short(group, 60)}{part}: levels over {counted(len(trend.commits), 'commit')}"
            name = _file_name(f"{group[:60]}{number}", charts)
            charts[name] = _chart(title, histories[i * size : (i + 1) * size], trend)
    return charts


def _file_name(text: str, taken: Iterable[str]) -> str:
    """Letters, digits, hyphens and underscores only; numbered where two would be the same."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "benchmarks"
    names = [plain, *(f"{plain}-again-{i}" for i in range(2, len(list(taken)) + 3))]
    lower = {name.lower() for name in taken}
    return next(name for name in names if name.lower() not in lower)


def _chart(title: str, histories: Sequence[History], trend: Trend) -> Chart:
    panels = [_panel(history, trend) for history in histories]
    rows = math.ceil(len(panels) / 2) if len(panels) > 3 else len(panels)
    notes = [
        "Every ratio was measured side by side on one machine; a level is the product of the ratios since the first "
        "commit of its chain, which is 1. Intervals (95%) are those of a point's last ratio alone; "
        "noise adds up along a chain."
    ]
    if any(level.source == "absolute" for history in histories for level in history.levels):
        notes.append(
            "Dashed: linked by absolute figures that were not measured side by side, so less sure than a ratio."
        )
    if any(history.drifts for history in histories):
        notes.append(f"Drift: {DRIFT:.2f} times or more over commits of which none is a step by itself.")
    columns = [panels[i : i + rows] for i in range(0, len(panels), rows)]
    return Chart(title, columns, notes=[*notes, *trend.notes], aligned=True)


def _panel(history: History, trend: Trend) -> Panel:
    """The chain of one benchmark, with its steps named and its drifts shaded."""
    order = {commit: i for i, commit in enumerate(trend.commits)}
    quality = history.kind == "quality"
    marks: list[Mark] = [Region(order[d.first], order[d.last], label="drift") for d in history.drifts]
    marks += [] if quality else [Rule(1.0)]
    # what comes first is drawn larger where points are crowded
    marks += [*_step_marks(history, order), *_links(history, order), *_points(history, order)]
    notes = [f"drift: {_drift_text(drift)}" for drift in history.drifts]
    notes += [f"failed at {', '.join(map(_id, history.failed[-3:]))}"] if history.failed else []
    y = Axis(
        short(history.unit) if quality else f"{history.kind}, first = 1", limits=None if quality else _span(history)
    )
    ticks = [(float(i), _id(commit)) for commit, i in order.items()]
    x = Axis(limits=(-0.5, len(order) - 0.5), ticks=ticks)
    return Panel(short(history.name, 64), marks, x, y, weight=0.6, note="; ".join(notes))


def _span(history: History) -> tuple[float, float]:
    """At least from 0.9 to 1.1, so that noise does not look like news."""
    ends = [end for level in history.levels for end in (level.value, *_interval(level)) if math.isfinite(end)]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low)
    return min(0.9, low - room), max(1.1, high + room)


def _interval(level: Level) -> tuple[float, float]:
    """Ends of the 95% interval of the level, given that of its origin."""
    return level.value * level.ratio.low / level.ratio.value, level.value * level.ratio.high / level.ratio.value


def _links(history: History, order: Mapping[str, int]) -> list[Line]:
    """Each level is joined to the one that it follows from; chains are not joined."""
    known = {level.commit: level for level in history.levels}
    lines = []
    kinds: tuple[tuple[Source, Dash], ...] = (("side by side", "solid"), ("absolute", "dashed"))
    for source, dash in kinds:
        xs: list[float] = []
        ys: list[float] = []
        for level in history.levels:
            if level.source == source and level.origin is not None:
                xs += [order[level.origin], order[level.commit], order[level.commit]]
                ys += [known[level.origin].value, level.value, math.nan]
        if xs:
            lines.append(Line(xs, ys, Look(DARK), dash=dash, faint=True))
    return lines


def _points(history: History, order: Mapping[str, int]) -> list[Points]:
    """All but the steps, by how they are known."""
    kinds: tuple[tuple[Source, str, str, bool], ...] = (
        ("start", "a chain starts", "s", True),
        ("side by side", "measured side by side", "o", False),
        ("absolute", "linked by absolute figures", "o", True),
    )
    marks = []
    for source, label, marker, hollow in kinds:
        levels = [level for level in history.levels if level.source == source and not level.step]
        if levels:
            marks.append(_marked(levels, order, Look(COLOURS[0], marker), label, hollow=hollow))
    return marks


def _marked(levels: Sequence[Level], order: Mapping[str, int], look: Look, label: str, *, hollow: bool) -> Points:
    xs, ys = [order[level.commit] for level in levels], [level.value for level in levels]
    intervals = [_interval(level) for level in levels]
    if not any(math.isfinite(low) for low, _ in intervals):
        return Points(xs, ys, look, label=label, hollow=hollow)
    lows, highs = zip(*intervals, strict=True)
    return Points(xs, ys, look, lows, highs, label=label, hollow=hollow)


def _step_marks(history: History, order: Mapping[str, int]) -> list[Mark]:
    """Steps in the colour of bad or good, and a rule at each; the greatest are named."""
    marks: list[Mark] = []
    for verdicts, look in ((WORSE, Look(COLOURS[1], "D")), (BETTER, Look(COLOURS[2], "D"))):
        levels = [level for level in history.steps if level.verdict in verdicts]
        if levels:
            marks.append(
                _marked(levels, order, look, f"step: {', '.join(verdicts[:-1])} or {verdicts[-1]}", hollow=False)
            )
    greatest = sorted(history.steps, key=lambda level: -_size(level, history))[:NAMED]
    for level in history.steps:
        name = f"{_id(level.commit)} {level.verdict}: {_change(level, history)}" if level in greatest else ""
        marks.append(Rule(order[level.commit], name + (", accepted" if name and level.accepted else ""), axis="x"))
    return marks


def _size(level: Level, history: History) -> float:
    """How great a step is, beside others of its benchmark."""
    if history.kind == "quality":
        before = next((one.value for one in history.levels if one.commit == level.origin), level.value)
        return abs(level.value - before)
    return abs(math.log(level.ratio.value)) if level.ratio.value > 0 else 0.0
