"""Copied into tests/ as test_dump_s4.py; OUT in the environment."""
import dataclasses, json, os
from pathlib import Path
import pytest, torch
import test_probe_context as T
from test_probe_context import registered, plan, PROBE
from seqbench.device import settings
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.jobs.record import ProbeRecord
from seqbench.probes import Measured, ProbeSpec
from seqbench.report.draw import draw
from seqbench.probes.context import effective_context, still_falls
OUT = Path(os.environ["OUT"])

PLANS = [
    ({"task": "toy-text", "targets": 50, "longest": 64}, ["gru", "ahead"], dict(budget="quick", seeds=3)),
    ({"task": "toy-text", "targets": 50, "longest": 64, "perturb": True, "sequence_length": 32}, ["gru", "transformer"], dict(budget="smoke", seeds=2)),
    ({"task": "toy-first,toy-wave"}, ["ahead"], dict(budget="smoke")),
    ({"task": "toy-first,toy-wave"}, ["ahead", "gru"], dict(budget="standard")),
    ({"task": "dna", "lengths": "10,20", "steps": 1}, ["gru"], dict(budget="quick")),
    ({"task": "dna", "lengths": "10,11"}, ["gru"], dict(budget="quick")),
    ({"task": "textgen"}, ["lstm", "gru"], dict(budget="quick")),
    ({"task": "textgen"}, ["lstm"], dict(budget="standard")),
    ({}, ["lstm"], dict(budget="smoke")),
    ({"task": "toy-wave", "lengths": "6,12", "steps": 40, "hidden": 8, "anchor": "centre", "learning_rate": 0.01}, ["gru"], dict(budget="quick")),
    ({"task": "toy-text", "longest": 30_000}, ["gru"], {}),
    ({"task": "nonsense"}, ["gru"], {}),
    ({"task": "textgen", "sequence_length": 1}, ["gru"], {}),
]

def measured_now(specs):
    found = []
    for spec in specs:
        with settings(torch.device("cpu"), spec):
            try:
                found.append(Measured(spec, PROBE.measure(spec, Listener()), Path("f")))
            except NotApplicable as e:
                (OUT / "na.txt").open("a").write(f"{spec.name}: {e}\n")
    return found

def show(name, measured):
    (OUT / f"{name}.table.txt").write_text(PROBE.table(measured) + "\n")
    chart = PROBE.chart(measured)
    (OUT / f"{name}.chart.json").write_text(json.dumps(dataclasses.asdict(chart), indent=1, default=str) + "\n")
    for i, panel in enumerate(chart.panels):
        (OUT / f"{name}.kinds.{i}.txt").write_text("\n".join(map(lambda m: type(m).__name__, panel.marks)))
    draw(chart, OUT / f"{name}.png")
    (OUT / f"{name}.headlines.txt").write_text("\n".join(PROBE.headline(o.result) for o in measured) + "\n")

def test_plans(registered):
    lines = []
    for options, models, request in PLANS:
        try:
            lines += [json.dumps(s.to_json(), sort_keys=True) for s in plan(options, models, **request)]
        except UserError as e:
            lines.append(f"{options}: {e}")
    (OUT / "plans.txt").write_text("\n".join(lines) + "\n")

def test_published():
    measured = []
    for path in sorted((T.ROOT / "results/board/probes/context").rglob("record.json")):
        r = ProbeRecord.from_json(path.read_text())
        measured.append(Measured(ProbeSpec.from_json(r.case), T.READER.validate_python(r.result), path.parent))
    show("published", measured)
    show("published-lstm", [m for m in measured if m.spec.models == ("lstm",) and m.spec.options["training"]["steps"] < 5000])

def test_measured(registered):
    (OUT / "na.txt").unlink(missing_ok=True)
    small = {"task": "toy-text", "targets": 50, "longest": 64, "sequence_length": 32, "hidden": 8, "perturb": True}
    specs = plan(small, ["gru", "transformer", "ahead"], budget="smoke", seeds=2)
    specs += plan({**small, "sequence_length": 16}, ["gru"], budget="smoke", seeds=1)
    specs += plan({**small, "task": "toy-lag", "targets": 4000}, ["windowed"], budget="smoke", seeds=2)
    specs += plan({"task": "toy-wave", "steps": 15, "hidden": 8}, ["gru", "lstm"], budget="quick", seeds=2)
    specs += plan({"task": "toy-wave", "steps": 15, "hidden": 16}, ["gru"], budget="quick", seeds=1)
    specs += plan({"task": "toy-first", "lengths": "6,12", "steps": 5, "hidden": 8}, ["gru", "ahead"], budget="quick", seeds=2)
    specs += plan({"task": "dna", "lengths": "10,20", "steps": 1}, ["gru"], budget="quick", seeds=1)
    measured = measured_now(specs)
    (OUT / "results.json").write_text(json.dumps([dataclasses.asdict(o.result) for o in measured], indent=1) + "\n")
    show("measured", measured)
    show("wave", [m for m in measured if m.spec.options["task"] == "toy-wave"])
    show("text", [m for m in measured if m.spec.options["task"] == "toy-text"])
