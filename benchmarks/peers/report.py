"""The page and the picture, made from the JSON files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.rows import ROWS, TINY, TITLES
from benchmarks.peers.worker import PEERS
from seqbench.disk import replace_file
from seqbench.report.chart import COLOURS, MARKERS, Axis, Chart, Look, Panel, Points, Rule
from seqbench.report.draw import draw
from seqbench.report.text import NONE, escape, listed, rounded, table
from seqbench.stats import Interval

__all__ = ["rates", "ratios", "write_report"]

OWN = "seqbench"
NAMES = {
    "seqbench": "seqbench",
    "seqbench-torch": "seqbench, --kernel torch",
    "torch": "bare PyTorch",
    "lightning": "Lightning",
    "keras-tensorflow": "Keras on TensorFlow",
    "keras-jax": "Keras on JAX",
}
Measured = dict[str, Any]  # of a row, as `measure_row` leaves it


def rates(row: Measured, peer: str) -> list[float]:
    """Samples per second in each block of ``peer``; none if it could not do the row."""
    own = row["peers"].get(peer, {})
    return [own["steps"] * row["batch_size"] / seconds for seconds in own.get("seconds", ())]


def spread(values: Sequence[float]) -> Interval:
    """Median, least and greatest."""
    return Interval(median(values), min(values), max(values))


def ratios(row: Measured, peer: str) -> list[float]:
    """The speed of ``peer`` over seqbench's, round by round."""
    return [theirs / ours for theirs, ours in zip(rates(row, peer), rates(row, OWN), strict=False)]


def to_best(row: Measured) -> list[float]:
    """seqbench's speed over that of the best peer of the same round; seqbench's own variants are no peers."""
    others = [own for peer in row["peers"] if not peer.startswith(OWN) and (own := rates(row, peer))]
    return [ours / max(theirs) for ours, *theirs in zip(rates(row, OWN), *others, strict=True)] if others else []


def write_report(folder: Path) -> None:
    """Write ``PEERS.md`` and ``peers.png`` into ``folder``, from the JSON files there."""
    kept = [json.loads(path.read_text()) for path in sorted(folder.glob("peers-*-thread*.json"))]
    if not any(file["rows"] for file in kept):
        raise SystemExit(f"{folder} holds no measurements")
    page = "\n".join(_page(kept)) + "\n"
    replace_file(folder / "PEERS.md", lambda file: file.write(page.encode()))
    draw(_chart(kept), folder / "peers.png")


def _in_order(rows: dict[str, Measured]) -> dict[str, Measured]:
    """As the table has them."""
    return {row.name: rows[row.name] for row in (*ROWS, *TINY) if row.name in rows}


def _peers(rows: dict[str, Measured]) -> list[str]:
    return [peer for peer in PEERS if any(peer in row["peers"] for row in rows.values())]


# ---- the page -----------------------------------------------------------------------------------------------------

METHOD = """
All peers train the same net on the same data with the same batch size, dropout and optimiser (AdamW, gradients clipped
to norm 1). The weights are copied from seqbench's model, and the loss of the first batch, in evaluation mode, must
agree to 1e-4 in all; a row where it does not is refused. Each peer has a process of its own, held to as many cores as
it has threads. Blocks of training steps are taken in turns, the order turned round each time, and only one process
computes at a time. A step is all that training does: the batch is gathered, forward, loss, backward, clipping, update.

- seqbench is `seqbench.training.fit` itself. Bare PyTorch is torch.nn in a plain loop; Lightning trains the same module
  in a Trainer that logs and shows nothing, from a DataLoader. Both are given the fused AdamW, which is not the default.
- Keras is `model.fit`, fed by tf.data on TensorFlow and by a generator on JAX; whether XLA compiles the step is left to
  Keras, which leaves it off on TensorFlow and a CPU (on, a step took two to five times as long in a trial). Its
  recurrent layers have one bias vector where PyTorch has two, but for the GRU.
- Where only the last step is read, bare PyTorch, Lightning and Keras drop out of the last step alone.
- "Start" is from the start of the process to the end of its first step, imports and compilation included; "memory" is
  the most that the process had (VmHWM). Each is measured once per row.
""".strip()


def _page(kept: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["# Training speed beside peers", "", "![Speed of each peer over seqbench's](peers.png)", ""]
    for file in kept:
        rows = _in_order(file["rows"])
        if rows:
            lines += _of_threads(file["threads"], rows)
    return [*lines, "## How it was measured", "", *METHOD.splitlines(), "", *_groups(kept), "", *_where(kept)]


def _of_threads(threads: int, rows: dict[str, Measured]) -> list[str]:
    """The tables of one file."""
    peers = _peers(rows)
    left = ("row",)
    speed = [[name, *(_speed(row, peer) for peer in peers), _best(row)] for name, row in rows.items()]
    headers = ["row", *(NAMES[peer] for peer in peers)]

    def of(name: str, show: Callable[[float], str]) -> list[list[str]]:
        return [[row, *(_figure(own["peers"], peer, name, show) for peer in peers)] for row, own in rows.items()]

    return [
        f"## {threads} thread{'s' if threads > 1 else ''}",
        "",
        "Sequences per second in training: the median of the blocks (least to greatest). The last column is seqbench's "
        "speed over that of the best peer of the same round.",
        "",
        *table([*headers, "seqbench / best peer"], speed, left),
        "",
        "Start, in seconds:",
        "",
        *table(headers, of("start_up", lambda value: f"{value:.1f}"), left),
        "",
        "Memory, in MiB:",
        "",
        *table(headers, of("peak_memory", lambda value: f"{value / 2**20:,.0f}"), left),
        "",
        *_failures(rows),
    ]


def _speed(row: Measured, peer: str) -> str:
    own = rates(row, peer)
    if not own:
        return NONE
    value, low, high = spread(own)
    return f"{rounded(value)} ({rounded(low)} to {rounded(high)})"


def _best(row: Measured) -> str:
    own = to_best(row)
    if not own:
        return NONE
    value, low, high = spread(own)
    return f"**{value:.2f}** ({low:.2f} to {high:.2f})"


def _figure(peers: Measured, peer: str, name: str, show: Callable[[float], str]) -> str:
    return show(peers[peer][name]) if name in peers.get(peer, {}) else NONE


def _failures(rows: dict[str, Measured]) -> list[str]:
    """What could not be measured, and why."""
    found = [
        f"- {name}, {NAMES[peer]}: {escape(own['failed'])}"
        for name, row in rows.items()
        for peer, own in row["peers"].items()
        if "failed" in own
    ]
    return ["Not measured:", "", *found, ""] if found else []


def _groups(kept: Sequence[dict[str, Any]]) -> list[str]:
    """What the rows are, and how the peers ran."""
    rows = [row for file in kept for row in file["rows"].values()]
    about: dict[str, dict[str, None]] = {}
    for row in rows:
        for peer, own in row["peers"].items():
            if own.get("about"):
                about.setdefault(peer, {})[own["about"]] = None
    lines = [f"- {group}: {title}" for group, title in TITLES.items()]
    lines += [f"- {NAMES[peer]}: {'; or '.join(texts)}" for peer, texts in about.items()]
    waiting = max((own.get("cpu_while_waiting", 0.0) for row in rows for own in row["peers"].values()), default=0.0)
    return [*lines, f"- A process that waited took at most {waiting:.1%} of a core's time meanwhile."]


def _where(kept: Sequence[dict[str, Any]]) -> list[str]:
    """Machine, versions and dates; several where rows were measured at different times."""
    found: dict[str, dict[str, None]] = {}
    for row in (row for file in kept for row in file["rows"].values()):
        versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
        blocks = f"{row['rounds']} rounds of blocks of about {row['block']:g} s"
        commit = f"{(row['commit'] or 'unknown')[:12]}{', with changes' if row['dirty'] else ''}"
        machine = "{cpu}, {system}, Python {python}".format(**row["machine"])
        facts = {"Machine": machine, "Versions": versions, "Blocks": blocks, "Commit": commit, "Date": row["date"]}
        for name, text in facts.items():
            found.setdefault(name, {})[text] = None
    return [f"- {name}: {'; '.join(texts)}" for name, texts in found.items()]


# ---- the picture --------------------------------------------------------------------------------------------------


def _chart(kept: Sequence[dict[str, Any]]) -> Chart:
    """A column of panels for each number of threads, a mark for each peer in each row."""
    panels = [[_panel(file["threads"], _in_order(file["rows"]))] for file in kept if file["rows"]]
    names = [NAMES[peer] for peer in PEERS if peer != OWN and any(peer in _peers(file["rows"]) for file in kept)]
    return Chart(
        "Training speed beside seqbench's",
        panels,
        subtitle=f"{listed(names)}; right of 1 is faster than seqbench",
        notes=("Marks are medians of rounds, lines reach from the least to the greatest.",),
    )


def _panel(threads: int, rows: dict[str, Measured]) -> Panel:
    marks: list[Points | Rule] = [Rule(1.0, "seqbench", axis="x", strong=True, widen="always")]
    peers = [peer for peer in PEERS if peer != OWN]
    for i, peer in enumerate(peers):
        down = 0.15 * (i - (len(peers) - 1) / 2)  # beside each other, so that none hides another
        found = [(place + down, spread(own)) for place, row in enumerate(rows.values()) if (own := ratios(row, peer))]
        if found:
            marks.append(
                Points(
                    x=[ratio.value for _, ratio in found],
                    y=[place for place, _ in found],
                    low=[ratio.low for _, ratio in found],
                    high=[ratio.high for _, ratio in found],
                    along="x",
                    look=Look(COLOURS[i], MARKERS[i]),
                    small=True,
                    label=NAMES[peer],
                )
            )
    axis = Axis("sequences per second, over seqbench's", scale="log2")
    return Panel(f"{threads} thread{'s' if threads > 1 else ''}", marks, x=axis, rows=list(rows))
