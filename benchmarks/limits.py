"""The share of this machine's matrix-product peak that seqbench's training reaches: ``python -m benchmarks.limits``.

One thread, single precision. The peak is the best rate of any product that is measured; one of them is measured before
and after each row, too, which tells whether the machine was busy meanwhile. A row's rate is that of
`seqbench.training.fit`, in a process of its own as in `benchmarks.peers`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.peers.measure import ROOT, measure_row, pin
from benchmarks.peers.problem import own
from benchmarks.peers.report import rates
from benchmarks.peers.rows import ROWS, TINY, Row, pick
from seqbench.disk import replace_file
from seqbench.models.sizing import flops_per_sample
from seqbench.report.text import listed, table

Shape = tuple[int, int, int]  # (m, k) by (k, n)

REFERENCE: Shape = (1024, 1024, 1024)
SQUARE: tuple[Shape, ...] = tuple((size, size, size) for size in (256, 512, 1024, 2048))
OTHERS: tuple[Shape, ...] = ((128, 256, 1024), (512, 256, 512), (4096, 128, 512))
BLOCKS = 5  # of each product, of which the best is the peak
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "bilstm": 4}
BACKWARD = 3  # forward and backward over forward


def product_rate(shape: Shape, seconds: float) -> float:
    """The best FLOP/s of ``torch.mm`` in `BLOCKS` blocks that take ``seconds`` together."""
    m, k, n = shape
    generator = torch.Generator().manual_seed(0)
    a, b, out = torch.randn(m, k, generator=generator), torch.randn(k, n, generator=generator), torch.empty(m, n)
    torch.mm(a, b, out=out)
    times, best, started = 1, 0.0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        since = time.perf_counter()
        for _ in range(times):
            torch.mm(a, b, out=out)
        taken = time.perf_counter() - since
        best = max(best, 2 * m * k * n * times / taken)
        times = max(1, round(times * seconds / BLOCKS / taken))
    return best


def step_products(row: Row, batch: int) -> list[Shape]:
    """The product of the state with its weights, B x H by H x G H, in each layer; a Transformer has none."""
    if row.model not in GATES:
        return []
    widths = [width // 2 if row.model == "bilstm" else width for width in row.widths]
    return [(batch, width, GATES[row.model] * width) for width in widths]


def measure(row: Row, seconds: float, block: float, rounds: int) -> dict[str, Any]:
    """All figures of one row."""
    made = own(row, 1)
    forward = flops_per_sample(made.model, made.data.train.sequence_length)
    assert forward is not None
    before = product_rate(REFERENCE, seconds)
    measured = measure_row(row, ["seqbench"], 1, block, rounds)
    beside = before, product_rate(REFERENCE, seconds)
    products = {shape: product_rate(shape, seconds) for shape in step_products(row, made.batch_size)}
    rate = BACKWARD * forward * median(rates(measured, "seqbench"))
    named = {_name(shape): value for shape, value in products.items()}
    return {"flops_per_sample": BACKWARD * forward, "rate": rate, "beside": beside, "step_products": named, **measured}


def _name(shape: Shape) -> str:
    return f"{shape[0]} x {shape[1]} by {shape[1]} x {shape[2]}"


# ---- the page -----------------------------------------------------------------------------------------------------

TEXT = """
One thread, single precision. FLOPs are those of the matrix products: three times a forward pass's, as
`seqbench.models.sizing` counts them, two for each multiply-add. A step of training also does what is not counted
(gates, dropout, loss, clipping, the update), and may save products that are counted: the gradient of inputs where
nothing needs it, and those of a first layer with its embedding, which seqbench multiplies before (dna, textgen: these
rows can be above 100%). "Product of a step" is the product of the state with its weights, once per time step and layer,
and what that product alone reaches in `torch.mm`. The peak is the best rate of any product on this page.
""".strip()


def peak_of(kept: dict[str, Any]) -> tuple[str, float]:
    """The best of all products, and its name."""
    found = dict(kept["products"])
    for row in kept["rows"].values():
        for name, value in (*row["step_products"].items(), *((_name(REFERENCE), rate) for rate in row["beside"])):
            found[name] = max(value, found.get(name, 0.0))
    return max(found.items(), key=lambda item: item[1])


def page(kept: dict[str, Any]) -> list[str]:
    """``LIMITS.md``."""
    rows = {row.name: kept["rows"][row.name] for row in (*ROWS, *TINY) if row.name in kept["rows"]}
    name, peak = peak_of(kept)
    beside = [rate for row in rows.values() for rate in row["beside"]]
    products = [[shape, giga(value), f"{value / peak:.0%}"] for shape, value in kept["products"].items()]
    some = next(iter(rows.values()))
    versions = ", ".join(f"{package} {some['versions'][package]}" for package in ("seqbench", "torch"))
    days = listed(sorted({row["date"] for row in rows.values()}))
    return [
        "# Training as a share of the matrix-product peak",
        "",
        f"**The peak is {giga(peak)} GFLOP/s** ({name}).",
        "",
        *TEXT.splitlines(),
        "",
        *_rows_table(rows, peak),
        "",
        f"Beside the rows, before and after each, {_name(REFERENCE)} ran at {giga(min(beside))} to {giga(max(beside))} "
        "GFLOP/s; where that is far from what stands below, the machine was busy.",
        "",
        *table(["product", "GFLOP/s", "share of the peak"], products, ("product",)),
        "",
        f"{some['machine']['cpu']}, {versions}, {days}; {some['rounds']} blocks of {some['block']:g} s for each row.",
    ]


def giga(rate: float) -> str:
    """FLOP/s in thousand millions."""
    return f"{rate / 1e9:.1f}"


def _rows_table(rows: dict[str, dict[str, Any]], peak: float) -> list[str]:
    """One line for each row, and one more for each further layer."""
    lines = []
    for name, row in rows.items():
        own = [name, giga(row["rate"]), f"**{row['rate'] / peak:.1%}**"]
        for shape, value in row["step_products"].items() or [("none", None)]:
            alone = ["", ""] if value is None else [giga(value), f"{value / peak:.0%}"]
            lines.append([*own, shape, *alone])
            own = ["", "", ""]
    headers = ["row", "training, GFLOP/s", "share of the peak", "product of a step", "alone, GFLOP/s", "its share"]
    return table(headers, lines, ("row", "product of a step"))


def main() -> None:
    """Measure the rows that are not there yet; the file and the page are written after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--rows", default="all", help="rows or groups of rows, with commas (default: all)")
    parser.add_argument("--block", type=float, default=5.0, help="seconds of a block of steps (default: 5)")
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each row (default: 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "peers", help="folder (default: results/peers)")
    parser.add_argument("--force", action="store_true", help="measure rows anew that are there")
    asked = parser.parse_args()
    path = asked.out / "limits.json"
    kept: dict[str, Any] = {"products": {}, "rows": {}}
    if path.exists():
        kept = json.loads(path.read_text())
    pin(1)
    torch.set_num_threads(1)
    seconds = min(2.0, asked.block)
    if not kept["products"] or asked.force:
        kept["products"] = {_name(shape): product_rate(shape, seconds) for shape in (*SQUARE, *OTHERS)}
    asked.out.mkdir(parents=True, exist_ok=True)
    for row in pick(asked.rows):
        if row.name not in kept["rows"] or asked.force:
            kept["rows"][row.name] = figures = measure(row, seconds, asked.block, asked.rounds)
            print(f"{row.name}: {giga(figures['rate'])} of {giga(peak_of(kept)[1])} GFLOP/s", flush=True)
        _write(path, json.dumps(kept, indent=1, allow_nan=False))
        _write(asked.out / "LIMITS.md", "\n".join(page(kept)))


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(f"{text}\n".encode()))


if __name__ == "__main__":
    main()
