"""A comparison as Markdown for a pull request, as JSON for programs, as JUnit for what shows tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.etree import ElementTree

from seqbench.gate.verdict import BAD, Change, Limits, compared, ordered
from seqbench.report.text import NONE, Section, counted, escape, listed, rounded, table

__all__ = ["SCHEMA", "Findings", "Revision", "as_json", "as_junit", "as_markdown", "as_sections", "legend"]

SCHEMA = 1  # of regress.json
FORBIDDEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], " ")  # in XML
HEADERS = ("what", "before", "after", "ratio or difference", "95% interval", "verdict", "")
LEFT = ("what", "verdict", "")
WORDS = {"failed": "fails", "open": "same, as far as can be told"}
COUNTED = {  # what a verdict says of one benchmark
    "failed": "failed", "missing": "vanished", "slower": "slower", "more memory": "took more memory", "worse": "worse",
    "not told": "can't be told", "new": "new", "faster": "faster", "less memory": "took less memory",
    "better": "better",
}  # fmt: skip
ORDER = {verdict: place for place, verdict in enumerate(COUNTED)}


@dataclass(frozen=True)
class Revision:
    """One side: what it is called, its commit, when that was made (ISO 8601), and whether files were changed since."""

    name: str
    commit: str | None = None
    time: str | None = None
    changed: bool = False

    def __str__(self) -> str:
        commit = f" ({self.commit[:10]})" if self.commit and not self.commit.startswith(self.name) else ""
        return f"{self.name}{commit}{', with uncommitted changes' if self.changed else ''}"


@dataclass(frozen=True)
class Findings:
    """Everything that was compared, worst first, and on what it rests."""

    base: Revision
    head: Revision
    device: str
    changes: Sequence[Change]
    limits: Limits = field(default_factory=Limits)
    relevant: float = math.nan
    notes: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """Which revisions, and where."""
        return f"{self.base} → {self.head}" + (f", on {self.device}" if self.device else "")

    @property
    def headline(self) -> str:
        """One sentence."""
        bad = Counter(change.verdict for change in self.changes if change.bad)
        if not bad:
            if not compared(self.changes):
                return "Nothing was compared."
            same = [change for change in self.changes if change.verdict == "same"]
            counts = {
                "accepted": sum(change.accepted is not None for change in self.changes),
                "can't be told": sum(c.verdict == "not told" and c.accepted is None for c in self.changes),
                "too noisy to be sure": sum(change.verdict == "open" for change in self.changes),
                "without a figure on either side": sum(change.after is None for change in same),
                "scored otherwise, not worse": sum(_is_other_score(change) for change in same),
            }
            also = [f"{count} {what}" for what, count in counts.items() if count]
            return f"Nothing got slower, larger or worse{f' ({listed(also)})' if also else ''}."
        parts = [f"{count} {COUNTED[verdict]}" for verdict, count in sorted(bad.items(), key=lambda one: ORDER[one[0]])]
        return f"Regression: {listed(parts)}."


def _is_other_score(change: Change) -> bool:
    """Whether it is a score that is not equal to the last bit."""
    return change.kind == "quality" and change.after is not None and "identical" not in change.note


def as_sections(found: Findings) -> list[Section]:
    """What changed, and what did not, as tables of plain text; either is left out where it has no row."""
    changes = ordered(found.changes)
    quiet = [change for change in changes if _is_quiet(change, found.limits)]
    loud = [change for change in changes if not _is_quiet(change, found.limits)]
    still = f"{counted(len(quiet), 'figure')} without a change that counts"
    parts = {"": loud, still: quiet}
    return [Section(heading, HEADERS, [_row(change) for change in part]) for heading, part in parts.items() if part]


def as_markdown(found: Findings) -> str:
    """A page: the sentence, a table of what changed, and behind a fold what did not."""
    lines = [f"## {escape(found.headline)}", "", escape(found.about), ""]
    bad = sum(change.bad for change in found.changes)  # these stand first
    for section in as_sections(found):
        rows = [[*map(escape, row)] for row in section.rows]
        if section.heading:
            lines += [f"<details><summary>{section.heading}</summary>", ""]
        else:
            rows = [[*row[:5], f"**{row[5]}**" if i < bad else row[5], *row[6:]] for i, row in enumerate(rows)]
        lines += [*table(HEADERS, rows, left=LEFT), ""]
        lines += ["</details>", ""] if section.heading else []
    lines += [*(escape(note) for note in found.notes), *([""] if found.notes else []), *legend(found)]
    return "\n".join(lines) + "\n"


def _is_quiet(change: Change, limits: Limits) -> bool:
    """Whether nothing is to be seen: it did not change, or is noisy but not by so much as would count."""
    return change.verdict == "same" or (change.verdict == "open" and change.ratio < limits.factor)


def _row(change: Change) -> list[str]:
    """One line of a table."""
    return [
        change.name + (", memory" if change.kind == "memory" else ""),
        _figure(change.before, change.unit),
        _figure(change.after, change.unit),
        *_size(change),
        WORDS.get(change.verdict, change.verdict) + (f", accepted: {change.accepted}" if change.accepted else ""),
        change.note,
    ]


def _figure(value: float | None, unit: str) -> str:
    """With its unit, in a size that reads well."""
    if value is None:
        return NONE
    if unit == "bytes":
        return f"{value / 2**20:,.1f} MiB"
    if unit == "s":
        scale, name = next((pair for pair in ((1.0, "s"), (1e-3, "ms")) if value >= pair[0]), (1e-6, "µs"))
        return f"{rounded(value / scale, 4)} {name}"
    return f"{rounded(value, 4)} {unit}".strip()


def _size(change: Change) -> list[str]:
    """The ratio, or of quality the difference, and its interval."""
    if change.before is None or change.after is None:
        return [NONE, NONE]
    if change.kind == "quality":
        known = math.isfinite(change.low) and math.isfinite(change.high)
        ends = f"{rounded(change.low)} to {rounded(change.high)}" if known else NONE
        return [f"{change.after - change.before:+.3g}", ends]
    ends = f"{change.low:.3f} to {change.high:.3f}" if math.isfinite(change.low) else NONE
    return [f"{change.ratio:.3f}" if math.isfinite(change.ratio) else NONE, ends]


def legend(found: Findings) -> list[str]:
    """How the verdicts came about, one sentence or two for each kind."""
    counts = sorted({change.processes for change in found.changes if change.kind == "time" and all(change.processes)})
    said = []
    if counts:
        sides = " or ".join(f"{first} and {second}" if first != second else f"{first}" for first, second in counts)
        said.append(
            f"Times are medians over processes, of which each side has {sides}. Slower means: p < "
            f"{found.limits.alpha:g} by a rank test, and a ratio of at least {found.limits.factor:.2f}; "
            "memory likewise."
        )
    if any(change.kind == "quality" for change in found.changes):
        said.append(
            "Worse means: p < 0.05 after Holm, over seeds and test examples, and at least "
            f"{found.relevant:g} of skill lost."
        )
    return said


# --- data ------------------------------------------------------------------------------------------------------------


def as_json(found: Findings) -> dict[str, Any]:
    """What regress.json holds; a figure that does not exist is null."""
    return {
        "schema_version": SCHEMA,
        "headline": found.headline,
        "base": asdict(found.base),
        "head": asdict(found.head),
        "device": found.device,
        "alpha": found.limits.alpha,
        "factor": found.limits.factor,
        "relevant": _finite(found.relevant),
        "notes": list(found.notes),
        "rows": [
            {name: _finite(value) for name, value in asdict(change).items()} | {"bad": change.bad}
            for change in ordered(found.changes)
        ],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_junit(found: Findings) -> str:
    """One test case for each figure; it fails where the change is bad and not accepted, and is skipped if not told."""
    changes = ordered(found.changes)
    counts: dict[str, int] = {
        "tests": len(changes),
        "failures": sum(change.bad and change.verdict != "failed" for change in changes),
        "errors": sum(change.bad and change.verdict == "failed" for change in changes),
        "skipped": sum(change.verdict == "not told" and not change.accepted for change in changes),
    }
    suite = ElementTree.Element("testsuite", {"name": "seqbench regress"} | {k: str(v) for k, v in counts.items()})
    for change in changes:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_xml(f"{change.kind}.{change.group}"),
            name=_xml(change.name),
            time=f"{change.after:.9f}" if change.kind == "time" and change.after is not None else "0",
        )
        said = _xml(", ".join(filter(None, (change.verdict, *_size(change), change.note, change.accepted))))
        if change.bad:
            ElementTree.SubElement(case, "error" if change.verdict == "failed" else "failure", message=said)
        elif change.verdict == "not told" and not change.accepted:
            ElementTree.SubElement(case, "skipped", message=said)
        elif change.verdict in BAD:
            ElementTree.SubElement(case, "system-out").text = said
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Without the characters that XML can't hold."""
    return text.translate(FORBIDDEN)
