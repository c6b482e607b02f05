"""Whole cases of the probes that read a clock, at small size: what a record holds, and what is shown of it.

No test depends on how fast anything is.
"""

import json
import math

import numpy as np
import pytest
import torch

from seqbench.errors import NotApplicable, UserError
from seqbench.experiment import Listener
from seqbench.probes import Found, Request, get_probe, timing
from seqbench.probes.cost import grid, lengths_to
from seqbench.probes.fit import geometric
from seqbench.probes.options import CostOptions, ParallelOptions

MODELS_ALL = ["bilstm", "gru", "lstm", "rnn", "transformer"]


def measured(probe, options, models, budget="smoke"):
    case, *_ = get_probe(probe).cases(Request(budget=budget), options, models, "cpu")
    torch.manual_seed(0)
    result = get_probe(probe).measure(case, Listener())
    return Found(case, json.loads(json.dumps(result, allow_nan=False)), None)


@pytest.fixture(scope="module")
def kernel():
    return measured("cost", CostOptions(hidden=16, backend="kernel", track="width"), MODELS_ALL)


@pytest.fixture(scope="module")
def parallel():
    return measured("parallel", ParallelOptions(hidden=16, tokens=(64, 128), longest=32), MODELS_ALL)


# --- whole cases ---


def test_a_case_holds_every_figure_and_its_ratios_follow_from_its_seconds(kernel):
    result = kernel.result
    assert set(result["models"]) == set(result["fit"]) == set(result["peak_bytes"]) == set(MODELS_ALL)
    assert result["reference"] == "rnn"
    for kinds in result["seconds"].values():
        for kind in ("forward", "train"):
            times = np.array(kinds[kind])
            assert times.shape == (len(result["shapes"]), result["repeats"])
            assert (times > 0).all()
    lstm, rnn = (np.array(result["seconds"][name]["train"]) for name in ("lstm", "rnn"))
    expected = geometric(np.exp(np.log(lstm / rnn).mean(axis=0)))
    assert result["ratios"]["lstm"]["train"] == pytest.approx(list(expected), rel=1e-3)
    assert result["ratios"]["lstm"]["by_shape"]["train"][2][0] == pytest.approx(
        geometric(lstm[2] / rnn[2])[0], rel=1e-3
    )
    assert result["models"]["lstm"]["params_mixer"] == 4 * (16 + 16 + 2) * 16
    assert result["models"]["lstm"]["params"] == 4 * (16 + 16 + 2) * 16 + 17 * 10
    assert result["models"]["transformer"]["state_size"] == 2 * 16 * result["counted_at"]
    assert set(result["widths"]) == {"16", "32"}
    assert len(result["widths"]["32"]["gru"]["train"]) == result["repeats"]


def test_memory_is_measured_at_one_batch_and_every_length(kernel):
    result = kernel.result
    for sizes in result["peak_bytes"].values():
        known = [shape for shape, size in zip(result["shapes"], sizes, strict=True) if size]
        assert known == [[4, 16], [4, 32], [4, 64]]


def test_cases_are_one_for_each_backend_and_track_and_say_what_has_no_loop():
    cases = get_probe("cost").cases(Request(budget="smoke"), CostOptions(), MODELS_ALL, "cpu")
    planned = [(case.options["backend"], case.options["track"], len(case.models)) for case in cases]
    assert planned[:3] == [("kernel", "width", 5), ("kernel", "params", 5), ("loop", "width", 3)]
    for case in cases[3:]:
        with pytest.raises(NotApplicable, match="has no step form"):
            get_probe("cost").measure(case, Listener())
    assert [case.models for case in cases[3:]] == [("bilstm",), ("transformer",)]
    assert cases[1].options["model_widths"]["rnn"] == 32 > cases[1].options["model_widths"]["lstm"]
    for case in cases:
        assert type(case).from_json(json.loads(json.dumps(case.to_json()))) == case


def test_the_reference_is_timed_beside_the_others_even_if_it_was_not_asked_for():
    (case,) = get_probe("cost").cases(
        Request(budget="smoke"), CostOptions(reference="elman", backend="kernel", track="params"), ["lstm"], "cpu"
    )
    assert case.models == ("lstm", "rnn") and case.options["reference"] == "rnn"
    (alone,) = get_probe("cost").cases(
        Request(budget="smoke"), CostOptions(backend="kernel", track="width"), ["lstm"], "cpu"
    )
    assert alone.models == ("lstm",) and alone.options["reference"] == "lstm"


def test_a_standard_run_has_a_serial_floor():
    cases = get_probe("cost").cases(Request(budget="standard"), CostOptions(), ["rnn", "lstm"], "cpu")
    assert [case.options["hidden"] for case in cases] == [128, 128, 128, 8]


def test_lengths_and_shapes():
    assert lengths_to(2048) == [32, 64, 128, 256, 512, 1024, 2048]
    assert lengths_to(100) == [25, 50, 100]
    assert lengths_to(4) == [1, 2, 4]
    quick = grid((1, 4, 16, 64, 256), 2048, 32_768)
    assert len(quick) == 29 and [16, 2048] in quick and [64, 1024] not in quick


@pytest.mark.parametrize(
    ("probe", "options", "sentence"),
    [
        ("cost", CostOptions(longest=0), "--longest 0 is out of range: take 4 to"),
        ("cost", CostOptions(longest=512, tokens=100), "--tokens 100 is less than one sequence"),
        ("cost", CostOptions(longest=1 << 24, hidden=512), "the largest that fits is"),
        ("cost", CostOptions(hidden=12), "the width of transformer must be a multiple of 8"),
        ("cost", CostOptions(reference="elmann"), "unknown model 'elmann'"),
        ("cost", CostOptions(hidden=8, track="params", reference="rnn"), "take a greater --hidden"),
        ("parallel", ParallelOptions(longest=0), "--longest 0 is out of range"),
        ("parallel", ParallelOptions(tokens=(64, 8), longest=32), "--tokens 8 is less than one sequence"),
        ("parallel", ParallelOptions(tokens=(1 << 24,), longest=1 << 24, hidden=512), "the largest that fits is"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_work(probe, options, sentence):
    with pytest.raises(UserError, match=sentence):
        get_probe(probe).cases(Request(budget="smoke"), options, MODELS_ALL, "cpu")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CostOptions(hidden=0), "--hidden 0"),
        (lambda: CostOptions(repeats=1), "one alone has no interval"),
        (lambda: CostOptions(tokens=0), "--tokens 0"),
        (lambda: ParallelOptions(tokens=(512, 0)), "--tokens 0"),
        (lambda: ParallelOptions(repeats=1000), "--repeats 1000"),
    ],
)
def test_options_out_of_range_are_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


# --- parallel ---


def test_speed_change_and_share_follow_from_the_seconds(parallel):
    result = parallel.result
    assert result["lengths"] == [8, 16, 32]
    assert result["shapes"] == [[8, 8], [4, 16], [2, 32], [16, 8], [8, 16], [4, 32]]
    times = np.array(result["seconds"]["lstm"]["128"])
    assert times.shape == (3, result["repeats"])
    assert result["tokens_per_second"]["lstm"]["128"] == pytest.approx(list(np.median(128 / times, axis=1)), rel=1e-3)
    assert result["change"]["lstm"]["128"] == pytest.approx(list(geometric(times[0] / times[-1])), rel=1e-3)
    least, most = result["peak_flops"][1:]
    work = 3 * 128 * 2 * 4 * 16 * 32  # forward and twice that backward; tokens; multiply-adds; gates; H (D + H)
    for share, spent in zip(result["share"]["lstm"]["128"], times, strict=True):
        assert work / spent.max() / most * 0.999 <= share <= work / spent.min() / least * 1.001
    assert set(result["fit"]) == set(MODELS_ALL) and result["fit"]["gru"] is not None


def test_one_number_of_tokens_gives_no_fit_and_the_table_says_why():
    found = measured("parallel", ParallelOptions(hidden=8, tokens=(64,), longest=32, repeats=2), ["gru"])
    assert found.result["fit"] == {"gru": None}
    assert "one number of tokens can't tell" in get_probe("parallel").table([found])


def test_a_batch_that_the_length_does_not_divide_is_rounded_down_and_counted_so():
    found = measured("parallel", ParallelOptions(hidden=8, tokens=(100,), longest=12, repeats=2), ["rnn"])
    assert found.result["shapes"] == [[33, 3], [16, 6], [8, 12]]
    times = np.array(found.result["seconds"]["rnn"]["100"])
    expected = np.median(np.array([[99], [96], [96]]) / times, axis=1)
    assert found.result["tokens_per_second"]["rnn"]["100"] == pytest.approx(list(expected), rel=1e-3)


# --- shown ---


def test_tables_name_every_model_and_draw_leaves_a_picture(kernel, parallel, tmp_path):
    for probe, found in (("cost", kernel), ("parallel", parallel)):
        table = get_probe(probe).table([found])
        assert all(name in table for name in MODELS_ALL)
        assert get_probe(probe).headline(found.case, found.result)
        path = get_probe(probe).draw([found, found], tmp_path / f"{probe}.svg")
        assert path.stat().st_size > 10_000
        assert get_probe(probe).draw([], tmp_path / "none.png").exists()


def test_verdicts_in_the_text_follow_the_fits(kernel, parallel):
    result = json.loads(json.dumps(kernel.result))
    fit = {"a": [1, 1, 1], "w": [1, 1, 1], "q": [0, 0, 0], "hidden_batch": [1, 1, None], "residual": [0.1, 0.1]}
    serial, free = ({**fit, "s": s, "trusted": True} for s in ([2e-6, 1e-6, 3e-6], [1e-6, 0.0, 2e-6]))
    result["fit"] = {name: {"forward": serial, "train": free} for name in MODELS_ALL}
    result["fit"]["gru"] = {"forward": free, "train": serial}
    result["fit"]["rnn"] = {"forward": free, "train": {**serial, "trusted": False}}
    text = get_probe("cost").table([Found(kernel.case, result, None)])
    assert "a serial part in training: gru;" in text
    assert "none to be seen: bilstm, lstm, transformer;" in text
    assert "above 15%): rnn." in text and "[1, inf]" in text

    result = json.loads(json.dumps(parallel.result))
    result["fit"] = dict.fromkeys(MODELS_ALL, free)
    result["fit"]["rnn"] = serial
    result["change"] = {name: {"64": [0.9, 0.85, 0.95], "128": [0.9, 0.7, 1.1]} for name in MODELS_ALL}
    result["change"]["rnn"] = {"64": [0.3, 0.2, 0.4], "128": [0.5, 0.3, 0.9]}
    text = get_probe("parallel").table([Found(parallel.case, result, None)])
    assert "rnn: loses a fifth of its speed or more at some numbers of tokens; steps have a serial time." in text
    assert "lstm: no loss of a fifth is certain; no serial time to be seen." in text


def test_significant_digits():
    assert timing.significant(0.00123456) == 0.001235
    assert math.isclose(timing.significant(123456.0), 123500.0)
