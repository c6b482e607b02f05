"""The pictures of one run and of one data set: what they show, for each kind of task."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from seqbench.cli.data import data_chart
from seqbench.cli.run import run_chart
from seqbench.data import Segments
from seqbench.jobs.record import RunRecord
from seqbench.prepare import prepare
from seqbench.report.chart import Bars, Line, Matrix, limits, look_of
from seqbench.report.draw import draw

METRICS = {"toy-first": "accuracy", "toy-wave": "rmse (m)", "toy-text": "bits_per_character (bits)"}


@pytest.fixture(scope="module")
def prepared():
    return {name: prepare(name, {}, "embedded", lambda line: None) for name in METRICS}


@pytest.fixture
def run_of(prepared, tmp_path):
    """``run_of(task)``: a record and its folder, with random predictions."""

    def run(task, kind=None):
        metric = METRICS[task].split(" ")[0]
        truth = prepared[task].data.test.truth()
        shape = (len(truth), 3) if task == "toy-first" else truth.targets.shape
        predictions = np.random.default_rng(0).uniform(size=shape)
        np.savez(tmp_path / "predictions.npz", prediction=predictions, target=truth.targets, group=truth.groups)
        points = [json.dumps({"step": step, f"val_{metric}": 1 / step}) + "\n" for step in (100, 200, 400)]
        (tmp_path / "curve.jsonl").write_text("".join(points))
        (tmp_path / "model.json").write_text(json.dumps({"classes": ["A", "B", "C"], "fitted": {}}))
        golden = RunRecord.from_json((ROOT / "tests" / "golden" / "record-v1.json").read_text(encoding="utf-8"))
        about = golden.task.model_copy(
            update={"name": task, "kind": kind or prepared[task].spec.kind, "source": "embedded"}
        )
        primary = golden.primary.model_copy(update={"name": metric, "value": 0.005})
        model = golden.model.model_copy(update={"name": "gru"})
        new = {"task": about, "model": model, "primary": primary, "baselines": {"naive": 0.02, "far": 5.0}}
        return golden.model_copy(update=new), tmp_path, truth, predictions

    return run


@pytest.mark.parametrize("task", METRICS)
def test_a_run_shows_its_learning_curve_with_all_baselines(task, run_of):
    record, folder, _, _ = run_of(task)
    curve = run_chart(record, folder).panels[0]
    line, *rules = curve.marks
    assert isinstance(line, Line) and (list(line.x), list(line.y)) == ([100, 200, 400], [0.01, 0.005, 0.0025])
    assert line.look == look_of("gru")
    assert [rule.name for rule in rules] == ["this run 0.005", "naive 0.02", "far 5"]
    assert [rule.strong for rule in rules] == [True, False, False]
    low, high = limits(curve, "y")
    assert low < 0.0025 and high > 5 and limits(curve, "x")[0] == 0
    assert curve.y.label == METRICS[task]


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_a_run_of_classes_shows_its_confusion(run_of, kind):
    record, folder, truth, predictions = run_of("toy-first", kind=kind)
    (matrix,) = run_chart(record, folder).panels[1].marks
    assert isinstance(matrix, Matrix) and matrix.rows == matrix.columns == ["A", "B", "C"]
    assert np.sum(matrix.values, axis=1) == pytest.approx(1)
    counts = [[int(text.split("\n")[0]) for text in row] for row in matrix.texts]
    right = int((truth.targets == predictions.argmax(axis=1)).sum())
    assert np.trace(counts) == right and np.sum(counts) == len(truth)


def test_a_run_of_tagged_sequences_shows_the_median_and_the_worst_along_their_steps(run_of):
    record, folder, _, _ = run_of("toy-first", kind="tag")
    true = np.array([0, 0, 1, 1, 2, 2] * 3)
    guess = true.copy()
    guess[6:8], guess[12:16] = 1, 2  # two and three are wrong in the second and the third
    rows, steps = np.repeat([0, 1, 2], 6), np.tile([0, 1, 2, 3, 4, 6], 3)  # step 5 is not scored
    kept = {"prediction": np.eye(3)[guess], "target": true, "group": rows, "meta_row": rows, "meta_step": steps}
    order = np.random.default_rng(0).permutation(18)
    np.savez(folder / "predictions.npz", **{name: values[order] for name, values in kept.items()})
    _, median, _, worst = run_chart(record, folder).panels
    assert "the median share of right labels, 66.7%" in median.title and "lowest" in worst.title
    assert [mark.label for mark in worst.marks] == ["true", "predicted"]
    drawn = np.array([worst.marks[0].x, worst.marks[0].y]).T
    levels = drawn[~np.isnan(drawn[:, 1])].reshape(-1, 2, 2)
    assert levels[:, :, 0].tolist() == [[0.5, 2.5], [2.5, 4.5], [4.5, 5.5], [6.5, 7.5]]
    assert levels[:, 0, 1] == pytest.approx([2.12, 1.12, 0.12, 0.12]) and worst.y.ticks[0] == (2, "A")


def test_a_run_of_numbers_shows_them_in_their_own_units_beside_the_true_ones(run_of):
    record, folder, _, _ = run_of("toy-first", kind="regress")
    true = np.linspace(-1, 1, 5000)
    np.savez(folder / "predictions.npz", prediction=true + 0.5, target=true, group=np.arange(5000))
    (folder / "model.json").write_text(json.dumps({"fitted": {"offset": 10.0, "scale": 2.0}}))
    panel = run_chart(record, folder).panels[1]
    diagonal, points = panel.marks
    assert (
        diagonal.x == diagonal.y == pytest.approx([8, 13], abs=0.01)
        and panel.note == "One in 3 of the 5,000 examples is drawn."
    )
    assert len(points.x) <= 2000 and np.subtract(points.y, points.x) == pytest.approx(1)


def test_a_run_of_forecasts_shows_the_median_and_the_worst_window(run_of):
    record, folder, truth, predictions = run_of("toy-wave")
    lines = {line.label: np.array(line.y) for line in run_chart(record, folder).panels[1].marks}
    assert list(lines) == [
        f"{window} window: {what}" for window in ("median", "worst") for what in ("truth", "forecast")
    ]
    errors = np.sort(((predictions - truth.targets) ** 2).mean(axis=(1, 2)))
    for window, error in (("median", errors[len(errors) // 2]), ("worst", errors[-1])):
        ahead = lines[f"{window} window: truth"] - lines[f"{window} window: forecast"]
        assert np.mean(ahead**2) == pytest.approx(error, rel=1e-5)


def test_a_run_of_text_shows_bits_by_block(run_of):
    record, folder, truth, _ = run_of("toy-text")
    (line,) = run_chart(record, folder).panels[1].marks
    assert len(line.y) == len(truth) and min(line.y) > 0


def test_a_kind_of_task_that_nobody_knows_leaves_no_empty_panel(run_of):
    record, folder, _, _ = run_of("toy-first", kind="sort")
    assert [panel.title for panel in run_chart(record, folder).panels] == ["Learning curve"]


@pytest.mark.parametrize("task", METRICS)
def test_both_pictures_of_each_kind_are_drawn(task, run_of, prepared, tmp_path):
    record, folder, _, _ = run_of(task)
    for name, chart in (("run", run_chart(record, folder)), ("data", data_chart(prepared[task]))):
        words = draw(chart, tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert len(chart.panels) == 2 and "Not drawn" not in words
        assert all(panel.title in words for panel in chart.panels)


def test_data_of_classes_shows_balance_and_lengths(prepared):
    balance, lengths = data_chart(prepared["toy-first"]).panels
    assert [bars.label for bars in balance.marks] == ["train, 600 examples", "val, 100 examples", "test, 200 examples"]
    assert all(isinstance(bars, Bars) and sum(bars.heights) == pytest.approx(1) for bars in balance.marks)
    for outline in lengths.marks:
        widths = np.diff(outline.x[1:])
        assert outline.steps and np.dot(outline.y[1:-1], widths) == pytest.approx(1)


def test_data_of_series_shows_every_split_in_turn(prepared):
    series, values = data_chart(prepared["toy-wave"]).panels
    assert [line.x[0] for line in series.marks] == [0, 500, 650]
    assert [len(line.y) for line in series.marks] == [500, 150, 200]
    assert [line.label for line in values.marks] == [line.label for line in series.marks]
    assert series.marks[0].label == "train, 486 windows"


def test_data_of_text_shows_its_symbols_and_splits(prepared):
    symbols, sizes = data_chart(prepared["toy-text"]).panels
    (bars,) = symbols.marks
    assert set(bars.names) == {"a", "b", "c", "d", "space"} and sorted(bars.heights, reverse=True) == bars.heights
    (bars,) = sizes.marks
    splits = prepared["toy-text"].data.splits
    assert dict(zip(bars.names, bars.heights, strict=True)) == {name: one.n_scored for name, one in splits.items()}


def test_data_of_segments_shows_means_by_class(prepared):
    starts = np.arange(100)
    segments = Segments(np.arange(400.0)[:, None] % 2, starts, 3, starts % 2, starts)
    data = replace(prepared["toy-wave"].data, train=segments, val=segments, test=segments, classes=("even", "odd"))
    (matrix,) = data_chart(replace(prepared["toy-wave"], data=data)).panels[1].marks
    assert isinstance(matrix, Matrix) and (matrix.rows, matrix.columns) == (("even", "odd"), ("height",))
    assert matrix.values == [[0.0], [1.0]] and matrix.least == -matrix.most < 0


def test_symbols_by_step_leave_out_those_that_never_occur(prepared):
    data = prepared["toy-first"].data
    rows = replace(data.train, inputs=np.tile([1, 3, 1, 1], (10, 1)), targets=np.arange(10) % 3, row_lengths=None)
    data = replace(data, train=rows, val=rows, test=rows)
    lines = data_chart(replace(prepared["toy-first"], data=data)).panels[1].marks
    assert {line.label: list(line.y) for line in lines} == {"a": [1, 0, 1, 1], "c": [0, 1, 0, 0]}
