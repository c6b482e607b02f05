"""Records of two sides: equal figures pass at once, a loss is found over seeds, and nothing is left out silently."""

import numpy as np
import pytest
from board_records import write

from seqbench.errors import UserError
from seqbench.gate.quality import compare_quality, read_records

SEEDS = range(5)
NOISE = np.array([0.004, -0.003, 0.001, -0.004, 0.002])


def records(folder, model="lstm", values=0.8 + NOISE, **given):
    """A record for each seed, whose figures without a test group vary a little; the reference scores .5."""
    for seed, value in enumerate(values):
        groups = (
            None if value is None else np.array([value + 0.001 * np.sin(np.arange(20) + seed), [0.5] * 20, [0.75] * 20])
        )
        write(folder, model, seed, value, left_out=groups, **given)
    return folder


def compared(before, after, *relevant):
    return compare_quality(read_records(before), read_records(after), *relevant)


def test_equal_figures_pass_at_once(tmp_path):
    (change,) = compared(records(tmp_path / "a"), records(tmp_path / "b"))
    assert (change.verdict, change.note, change.p) == ("same", "identical", 1.0)
    assert change.name == "toy lstm quick" and change.before == change.after == pytest.approx(0.8)
    assert change.processes == (5, 5)


def test_a_loss_is_worse_and_a_gain_better(tmp_path):
    before = records(tmp_path / "a")
    (worse,) = compared(before, records(tmp_path / "b", values=0.77 + NOISE[::-1]))
    assert worse.verdict == "worse" and worse.bad and worse.high < 0
    assert "-0.0600 of skill" in worse.note  # .03 of accuracy, of .5 from the reference to perfect
    (better,) = compared(before, records(tmp_path / "c", values=0.83 + NOISE[::-1]))
    assert better.verdict == "better" and not better.bad


def test_other_rounding_is_silent_and_a_small_loss_is_too_unless_it_is_asked_for(tmp_path):
    before = records(tmp_path / "a")
    (other,) = compared(before, records(tmp_path / "b", values=0.8 + NOISE[::-1]))
    assert other.verdict == "same" and other.p > 0.05
    small = records(tmp_path / "c", values=0.799 + NOISE)
    (change,) = compared(before, small)
    assert change.verdict == "same" and change.p < 0.001
    assert compared(before, small, 0.001)[0].verdict == "worse"


def test_p_values_of_all_models_are_one_family(tmp_path):
    before = records(tmp_path / "a" / "1")
    after = records(tmp_path / "b" / "1", values=0.79 + NOISE[::-1])
    (alone,) = compared(before, after)
    for name in ("gru", "rnn", "transformer"):
        records(tmp_path / "a" / "2", name)
        records(tmp_path / "b" / "2", name, 0.8 + NOISE[::-1])
    records(tmp_path / "a" / "3", "bilstm")
    records(tmp_path / "b" / "3", "bilstm")  # identical figures are no test
    together = {change.name: change.p for change in compared(tmp_path / "a", tmp_path / "b")}
    assert 0 < alone.p < 0.25
    assert together["toy lstm quick"] == pytest.approx(4 * alone.p)
    assert together["toy bilstm quick"] == 1


def test_a_run_that_broke_a_seed_that_lacks_and_a_model_that_vanished_are_named(tmp_path):
    for name in ("lstm", "gru", "rnn"):
        records(tmp_path / "a", name)
    records(tmp_path / "b", "lstm", [0.8, None, 0.8, 0.8, 0.8])
    records(tmp_path / "b", "gru", (0.8 + NOISE)[:3])
    records(tmp_path / "b", "transformer")
    changes = {change.name: change for change in compared(tmp_path / "a", tmp_path / "b")}
    assert {name: change.verdict for name, change in changes.items()} == {
        "toy lstm quick": "failed",
        "toy gru quick": "missing",
        "toy rnn quick": "missing",
        "toy transformer quick": "new",
    }
    assert "seed 1: diverged (loss is nan)" in changes["toy lstm quick"].note
    assert "no run of seed 3, 4" in changes["toy gru quick"].note


def test_what_fails_on_both_sides_alike_is_no_regression(tmp_path):
    values = [None] * 5
    (change,) = compared(records(tmp_path / "a", values=values), records(tmp_path / "b", values=values))
    assert change.verdict == "same" and "diverged on both sides" in change.note


def test_another_default_is_compared_and_named(tmp_path):
    before = records(tmp_path / "a")
    after = records(tmp_path / "b", values=0.7 + NOISE, config__dropout=0.3, model__params=999)
    (change,) = compared(before, after)
    assert change.verdict == "worse"
    assert "dropout 0.1 -> 0.3" in change.note and "parameters 12345 -> 999" in change.note


def test_two_configurations_of_one_model_are_told_apart(tmp_path):
    for side in ("a", "b"):
        records(tmp_path / side)
        records(tmp_path / side, config__dropout=0.5)
    assert sorted(change.name for change in compared(tmp_path / "a", tmp_path / "b")) == [
        "toy lstm quick dropout 0.1",
        "toy lstm quick dropout 0.5",
    ]


def test_scores_of_other_data_can_not_be_compared(tmp_path):
    after = records(tmp_path / "b", values=0.7 + NOISE, task__data_sha256="1" * 64)
    (change,) = compared(records(tmp_path / "a"), after)
    assert change.verdict == "not told" and "the data differ" in change.note


def test_scores_in_another_metric_or_with_other_test_groups_can_not_be_compared(tmp_path):
    before = records(tmp_path / "a")
    after = records(tmp_path / "b", values=0.7 + NOISE, primary__name="macro_f1")
    (change,) = compared(before, after)
    assert change.verdict == "not told" and "the metric is another one" in change.note
    for seed, value in enumerate(0.7 + NOISE):
        write(tmp_path / "c", "lstm", seed, value)  # four groups in place of twenty
    (change,) = compared(before, tmp_path / "c")
    assert change.verdict == "not told"


def test_of_a_folder_within_records_only_what_is_below_it_counts(tmp_path):
    root = records(records(tmp_path / "a", "gru", 0.6 + NOISE), "lstm")
    assert {run.model for run in read_records(root)} == {"gru", "lstm"}
    assert {run.model for run in read_records(root / "toy" / "gru")} == {"gru"}


def test_one_seed_can_not_tell(tmp_path):
    (change,) = compared(records(tmp_path / "a", values=[0.8]), records(tmp_path / "b", values=[0.7]))
    assert change.verdict == "not told"


def test_a_folder_without_records_has_none_and_a_damaged_one_is_refused(tmp_path):
    assert read_records(tmp_path) == []
    folder = write(records(tmp_path / "a"), "gru")
    (folder / "record.json").write_text("{")
    with pytest.raises(UserError, match=r"record\.json"):
        read_records(tmp_path / "a")


def test_the_command_compares_records_below_any_folder(here, tmp_path):
    records(tmp_path / "a" / "quality" / "deep")
    records(tmp_path / "b" / "elsewhere", values=0.7 + NOISE)
    done = here("regress", "--baseline", "a", "--candidate", "b")
    assert done.returncode == 3 and "toy lstm quick" in done.stdout and "**worse**" in done.stdout
    assert here("regress", "--baseline", "a", "--candidate", "a").returncode == 0
