"""Whole measurements of the probes that read a clock, at small size: what a record holds, and what is shown of it.

No test depends on how fast anything is.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from pydantic import TypeAdapter

from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.jobs.record import Record
from seqbench.probes import Measured, ProbeSpec, Request
from seqbench.probes.cost import CostOptions, CostProbe, CostResult, CudaCostResult, grid
from seqbench.probes.parallel import CudaParallelResult, Parallel, ParallelOptions, ParallelResult
from seqbench.probes.shared.fits import (
    StepSeconds,
    TimeFit,
    events,
    fit_times,
    geometric,
    lengths_to,
    significant,
    walls,
)
from seqbench.report.chart import look_of
from seqbench.report.draw import draw
from seqbench.stats import Interval

MODELS_ALL = ["bilstm", "gru", "lstm", "rnn", "transformer"]
COST, PARALLEL = CostProbe(), Parallel()
SMOKE = Request(budget="smoke")


def read(probe, raw):
    return TypeAdapter(probe.Result).validate_python(raw)


def run(probe, options, models):
    """The first measurement that is planned, read again from its JSON."""
    spec, *_ = probe.plan(SMOKE, options, models, "cpu")
    torch.manual_seed(0)
    raw = dataclasses.asdict(probe.measure(spec, Listener()))
    return Measured(spec, read(probe, json.loads(json.dumps(raw, allow_nan=False))), None)


@pytest.fixture(scope="module")
def kernel():
    return run(COST, CostOptions(hidden=16, backend="kernel", track="width"), MODELS_ALL)


@pytest.fixture(scope="module")
def parallel():
    return run(PARALLEL, ParallelOptions(hidden=16, tokens=(64, 128), longest=32), MODELS_ALL)


# --- cost ---


def test_a_measurement_holds_every_figure_and_its_ratios_follow_from_its_seconds(kernel):
    result = kernel.result
    assert set(result.models) == set(result.fit) == set(result.peak_bytes) == set(MODELS_ALL)
    assert result.reference == "rnn"
    for kinds in result.seconds.values():
        for kind in ("forward", "train"):
            times = np.array(kinds[kind])
            assert times.shape == (len(result.shapes), result.repeats)
            assert (times > 0).all()
    lstm, rnn = (np.array(result.seconds[name]["train"]) for name in ("lstm", "rnn"))
    ratios = result.ratios["lstm"]
    assert ratios.train == pytest.approx(geometric(np.exp(np.log(lstm / rnn).mean(axis=0))), rel=1e-3)
    assert ratios.by_shape["train"][2].value == pytest.approx(geometric(lstm[2] / rnn[2]).value, rel=1e-3)
    assert result.models["lstm"].params_mixer == 4 * (16 + 16 + 2) * 16
    assert result.models["lstm"].params == 4 * (16 + 16 + 2) * 16 + 17 * 10
    assert result.models["transformer"].state_size == 2 * 16 * result.counted_at
    assert set(result.widths) == {"16", "32"}
    assert len(result.widths["32"]["gru"].train) == result.repeats


def test_memory_is_measured_at_one_batch_and_every_length(kernel):
    result = kernel.result
    for sizes in result.peak_bytes.values():
        known = [shape for shape, size in zip(result.shapes, sizes, strict=True) if size]
        assert known == [(4, 16), (4, 32), (4, 64)]


def test_there_is_one_measurement_for_each_backend_and_track_and_what_has_no_loop_is_said():
    specs = COST.plan(SMOKE, CostOptions(), MODELS_ALL, "cpu")
    planned = [(spec.options["backend"], spec.options["track"], len(spec.models)) for spec in specs]
    assert planned[:4] == [("kernel", "width", 5), ("kernel", "params", 5), ("fast", "width", 5), ("loop", "width", 3)]
    for spec in specs[4:]:
        with pytest.raises(NotApplicable, match="has no step form"):
            COST.measure(spec, Listener())
    assert [spec.models for spec in specs[4:]] == [("bilstm",), ("transformer",)]
    assert specs[1].options["model_widths"]["rnn"] == 32 > specs[1].options["model_widths"]["lstm"]
    for spec in specs:
        assert ProbeSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_reference_is_timed_beside_the_others_even_if_it_was_not_asked_for():
    (spec,) = COST.plan(SMOKE, CostOptions(reference="elman", backend="kernel", track="params"), ["lstm"], "cpu")
    assert spec.models == ("lstm", "rnn") and spec.options["reference"] == "rnn"
    (alone,) = COST.plan(SMOKE, CostOptions(backend="kernel", track="width"), ["lstm"], "cpu")
    assert alone.models == ("lstm",) and alone.options["reference"] == "lstm"


def test_a_standard_run_has_a_serial_floor():
    specs = COST.plan(Request(budget="standard"), CostOptions(), ["rnn", "lstm"], "cpu")
    assert [spec.options["hidden"] for spec in specs] == [128, 128, 128, 128, 8]


def test_lengths_and_shapes():
    assert lengths_to(2048) == [32, 64, 128, 256, 512, 1024, 2048]
    assert lengths_to(100) == [25, 50, 100]
    assert lengths_to(4) == [1, 2, 4]
    quick = grid((1, 4, 16, 64, 256), 2048, 32_768)
    assert len(quick) == 29 and [16, 2048] in quick and [64, 1024] not in quick


@pytest.mark.parametrize(
    ("probe", "asked", "sentence"),
    [
        (COST, {"longest": 0}, "--longest 0 is out of range: take 4 to"),
        (COST, {"longest": 512, "tokens": 100}, "--tokens 100 is less than one sequence"),
        (COST, {"longest": 1 << 24, "hidden": 512}, "the largest that fits is"),
        (COST, {"hidden": 12}, "the width of transformer must be a multiple of 8"),
        (COST, {"reference": "elmann"}, "unknown model 'elmann'"),
        (COST, {"hidden": 8, "track": "params", "reference": "rnn"}, "take a greater --hidden"),
        (COST, {"hidden": 0}, "--hidden 0"),
        (COST, {"repeats": 1}, "take 2 to 100"),
        (COST, {"tokens": 0}, "--tokens 0"),
        (PARALLEL, {"longest": 0}, "--longest 0 is out of range"),
        (PARALLEL, {"tokens": (64, 8), "longest": 32}, "--tokens 8 is less than one sequence"),
        (PARALLEL, {"tokens": (1 << 24,), "longest": 1 << 24, "hidden": 512}, "the largest that fits is"),
        (PARALLEL, {"tokens": (512, 0)}, "--tokens 0"),
        (PARALLEL, {"repeats": 1000}, "--repeats 1000"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_work(probe, asked, sentence):
    with pytest.raises(UserError, match=sentence):
        probe.plan(SMOKE, probe.Options(**asked), MODELS_ALL, "cpu")


# --- parallel ---


def test_speed_change_and_share_follow_from_the_seconds(parallel):
    result = parallel.result
    assert result.lengths == [8, 16, 32]
    assert result.shapes == [(8, 8), (4, 16), (2, 32), (16, 8), (8, 16), (4, 32)]
    times = np.array(result.seconds["lstm"]["128"])
    assert times.shape == (3, result.repeats)
    assert result.tokens_per_second["lstm"]["128"] == pytest.approx(list(np.median(128 / times, axis=1)), rel=1e-3)
    assert result.change["lstm"]["128"] == pytest.approx(geometric(times[0] / times[-1]), rel=1e-3)
    _, least, most = result.peak_flops
    work = 3 * 128 * 2 * 4 * 16 * 32  # forward and twice that backward; tokens; multiply-adds; gates; H (D + H)
    for share, spent in zip(result.share["lstm"]["128"], times, strict=True):
        assert work / spent.max() / most * 0.999 <= share <= work / spent.min() / least * 1.001
    assert set(result.fit) == set(MODELS_ALL) and result.fit["gru"] is not None


def test_one_number_of_tokens_gives_no_fit_and_the_table_says_why():
    measured = run(PARALLEL, ParallelOptions(hidden=8, tokens=(64,), longest=32, repeats=2), ["gru"])
    assert measured.result.fit == {"gru": None}
    assert "one number of tokens can't tell" in PARALLEL.table([measured])
    serial = PARALLEL.chart([measured]).columns[1][0]
    assert not serial.marks and serial.note == "no trusted fit: gru"


def test_a_batch_that_the_length_does_not_divide_is_rounded_down_and_counted_so():
    result = run(PARALLEL, ParallelOptions(hidden=8, tokens=(100,), longest=12, repeats=2), ["rnn"]).result
    assert result.shapes == [(33, 3), (16, 6), (8, 12)]
    expected = np.median(np.array([[99], [96], [96]]) / np.array(result.seconds["rnn"]["100"]), axis=1)
    assert result.tokens_per_second["rnn"]["100"] == pytest.approx(list(expected), rel=1e-3)


# --- shown ---


@pytest.mark.parametrize("probe", [COST, PARALLEL], ids=lambda probe: probe.name)
def test_tables_name_every_model_and_charts_can_be_drawn(probe, request, tmp_path):
    measured = request.getfixturevalue({"cost": "kernel", "parallel": "parallel"}[probe.name])
    assert all(name in probe.table([measured]) for name in MODELS_ALL)
    assert probe.headline(measured.result)
    chart = probe.chart([measured, measured])
    looks = {label: marks[0].look for label, marks in chart.legend().items()}
    assert {name: looks[name] for name in MODELS_ALL} == {name: look_of(name) for name in MODELS_ALL}
    assert draw(chart, tmp_path / "both.svg").stat().st_size > 10_000
    assert draw(probe.chart([]), tmp_path / "none.png").exists()


def test_a_panel_without_figures_says_why(kernel):
    result = dataclasses.replace(kernel.result, ratios={}, peak_bytes={"rnn": [None] * len(kernel.result.shapes)})
    _, ratios, memory = COST.chart([dataclasses.replace(kernel, result=result)]).columns[0]
    assert ratios.note == "nothing to compare with" and not ratios.rows
    assert memory.note == "the device does not tell" and not memory.marks
    assert COST.headline(result) == "nothing to compare with"


SERIAL = TimeFit(
    (1.0, 1.0, 1.0), (2e-6, 1e-6, None), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, None), (0.1, 0.1), True
)
FREE = dataclasses.replace(SERIAL, s=(1e-6, 0.0, 2e-6))


def test_verdicts_in_the_text_follow_the_fits(kernel, parallel):
    fit = {name: {"forward": SERIAL, "train": FREE} for name in MODELS_ALL}
    fit["gru"] = {"forward": FREE, "train": SERIAL}
    fit["rnn"] = {"forward": FREE, "train": dataclasses.replace(SERIAL, trusted=False)}
    text = COST.table([dataclasses.replace(kernel, result=dataclasses.replace(kernel.result, fit=fit))])
    assert "a serial part in training: gru;" in text
    assert "none to be seen: bilstm, lstm, transformer;" in text
    assert "above 15%): rnn." in text and "1 (1 and more)" in text

    fit = {**dict.fromkeys(MODELS_ALL, FREE), "rnn": SERIAL}
    change = {name: {"64": Interval(0.9, 0.85, 0.95), "128": Interval(0.9, 0.7, 1.1)} for name in MODELS_ALL}
    change["rnn"] = {"64": Interval(0.3, 0.2, 0.4), "128": Interval(0.5, 0.3, 0.9)}
    measured = dataclasses.replace(parallel, result=dataclasses.replace(parallel.result, fit=fit, change=change))
    text = PARALLEL.table([measured])
    assert "rnn: loses a fifth of its speed or more at some numbers of tokens; steps have a serial time." in text
    assert "lstm: no loss of a fifth is certain; no serial time to be seen." in text
    serial = PARALLEL.chart([measured]).columns[1][0]
    assert [max(line.high) for line in serial.marks if line.look == look_of("rnn")] == [1.0]  # without an upper bound


def test_records_hold_four_significant_digits():
    assert significant(0.00123456) == 0.001235
    assert significant(123456.0) == 123500.0
    readings = [StepSeconds(0.123456, 3.0), StepSeconds(2.0, 1.0), StepSeconds(5.0, 1.234567)]
    assert walls(readings) == [0.1235, 2.0, 5.0] and events(readings) == 1.235


# --- records ---


def published(probe):
    folder = ROOT / "results" / "board" / "probes" / probe.name
    records = [Record.from_json(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("record.json"))]
    assert records
    return records


@pytest.mark.parametrize("probe", [COST, PARALLEL], ids=lambda probe: probe.name)
def test_the_published_measurements_are_planned_again(probe):
    """A record's key is of the version and of what is planned."""
    specs = probe.plan(Request(), probe.Options(), ["rnn", "lstm", "gru", "transformer"], "cpu")
    specs = [spec for spec in specs if spec.options.get("backend") != "fast"]  # not there when they were published
    cases = [record.case for record in published(probe)]
    assert len(specs) == len(cases) and all(spec.to_json() in cases for spec in specs)
    assert all(record.probe.version == probe.version for record in published(probe))


def test_the_published_figures_of_cost_follow_from_the_published_seconds():
    for record in (record for record in published(COST) if record.result is not None):
        result = read(COST, record.result)
        assert COST.headline(result) == record.summary
        for name, kinds in result.seconds.items():
            for kind, seconds in kinds.items():
                assert fit_times(result.shapes, seconds, record.case["seed"]) == result.fit[name][kind]
        for name, ratios in result.ratios.items():
            pairs = np.array(result.seconds[name]["train"]) / np.array(result.seconds[result.reference]["train"])
            assert ratios.train == tuple(map(significant, geometric(pairs)))


def test_the_published_figures_of_parallel_are_shown_as_they_are():
    (record,) = published(PARALLEL)
    result = read(PARALLEL, record.result)
    assert PARALLEL.headline(result) == record.summary
    for name, by_tokens in result.seconds.items():
        seconds = [times for at_n in by_tokens.values() for times in at_n]
        assert fit_times(result.shapes, seconds, record.case["seed"]) == result.fit[name]
    table = PARALLEL.table([Measured(ProbeSpec.from_json(record.case), result, None)])
    (row,) = (line for line in table.splitlines() if line.startswith("| rnn") and "2,048" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:7] == ["177,300", "31,560", "0.162 (0.139 to 0.188)", "47%", "8%"]
    assert cells[7:] == ["45.2 (29.1 to 62.2)", "12.4 (8.42 to 17.9)", "14.9%"]


def test_the_devices_own_clock_is_in_records_of_cuda_only(kernel, parallel):
    cases = [(COST, kernel, CostResult, CudaCostResult), (PARALLEL, parallel, ParallelResult, CudaParallelResult)]
    for probe, measured, plain, cuda in cases:
        raw = dataclasses.asdict(measured.result)
        events = {name: {"forward": [1.0], "train": [1.0]} if probe is COST else [1.0] for name in MODELS_ALL}
        assert "event_seconds" not in raw and type(read(probe, raw)) is plain
        with_events = read(probe, {**raw, "event_seconds": events})
        assert type(with_events) is cuda and with_events.event_seconds == events
