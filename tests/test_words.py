"""Text read word by word: how it is cut and put together, its closed vocabulary, its figures, and every command."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter
from seqbench.tasks.textgen import bible_text

import seqbench
from seqbench.about import about_data_of
from seqbench.board.verify import check_stored, verified
from seqbench.config import RunConfig
from seqbench.data import Stream, Truth, text_of, unit_of
from seqbench.device import settings
from seqbench.errors import UserError
from seqbench.experiment import estimate_seconds, resolve, run_cell
from seqbench.files import plain_text
from seqbench.files.plain_text import NO_WORD, StreamOptions, score_words, spelled
from seqbench.jobs.job import Listener
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.predictions import predict_columns, predicted_test
from seqbench.prepare import fit_baselines, prepare
from seqbench.probes import Measured, Request
from seqbench.probes.context import ContextOptions, ContextProbe, ContextResult
from seqbench.task import TASKS, Source


def book(seed, n):
    """Sentences of a few words, each with a name that comes back at its end."""
    rng = np.random.default_rng(seed)
    names, deeds = ["Ann", "Bob", "Eve", "Tom"], ["sat", "ran", "slept"]
    drawn = [(rng.choice(names), rng.choice(deeds)) for _ in range(n)]
    return "\n".join(f"{name} {deed} on the mat, said {name}." for name, deed in drawn)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "book.txt"
    path.write_text(book(0, 1500), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def outcome(file, tmp_path_factory):
    config = RunConfig(
        data=str(file), task="textgen", model="gru", budget="smoke", hidden=(8,), sequence_length=32,
        option=("unit=word", "test=0.3"),
    )  # fmt: skip
    return run_cell(config, Store(tmp_path_factory.mktemp("out")))


# ---- cut, and put together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("And God said, Let there be light: and", "And God said , Let there be light : and"),
        ("It [was] the king\u2019s; don't  stop\twell-known", "It [ was ] the king\u2019s ; don't stop well-known"),
        ("1,000.5 men (of 3) ... at 10:30.", "1,000.5 men ( of 3 ) ... at 10:30 ."),
        ("\n one\n\n  two \r\nthree\n", "one \n two \n three"),
        ("sons\u2019 -- a+b", "sons \u2019 -- a + b"),
        ("我们 नमस्ते", "我 们 नमस्ते"),
    ],
)
def test_words_numbers_signs_and_ends_of_lines_are_told_apart(text, words):
    assert spelled(text) == words.split(" ")


def test_words_put_together_read_as_text_and_are_cut_into_the_same_again():
    text = bible_text()[1_000_000:1_200_000]
    words = spelled(text)
    vocabulary = sorted(set(words))
    number = {word: i for i, word in enumerate(vocabulary)}
    joined = text_of([number[word] for word in words], vocabulary, "word")
    assert spelled(joined) == words and abs(len(joined) - len(text)) < 0.002 * len(text)
    shown = text_of(range(9), ["He", "said", ",", "(", "[", "no", "]", ")", "."], "word")
    assert shown == "He said, ([no])."
    assert text_of([0, 1, 0], ["a", "\n"], "word") == "a\na" and text_of([1, 0, 1], ["a", "b"], "character") == "bab"


# ---- the data ------------------------------------------------------------------------------------------------------


def parts_of(train, val, test, **options):
    return plain_text.build((train, val, test), {"file": "0"}, StreamOptions(unit="word", **options), 1000, ())


def test_the_vocabulary_is_closed_and_of_words_that_training_has_twice():
    train = "a b a c b a d e e . " * 3 + "once twice"
    data = parts_of(train, "a zebra once " * 9, "e d c " * 9, sequence_length=8)
    assert data.vocabulary == (NO_WORD, "a", "b", "e", ".", "c", "d") and unit_of(data.fitted) == "word"
    assert np.bincount(data.train.tokens)[0] == 2  # so that it is learnt that there are others
    assert data.val.tokens[:6].tolist() == [1, 0, 0, 1, 0, 0]
    assert any("2 training, 18 validation and 0 test words" in note for note in data.notes), data.notes
    few = parts_of(train, "a zebra " * 9, "e d " * 9, sequence_length=8, words=2)
    assert few.vocabulary == (NO_WORD, "a", "b")
    with pytest.raises(UserError, match="fewer than two words that come twice"):
        parts_of(
            "one two three four five six seven eight nine " + "ten " * 2, "a b " * 9, "c d " * 9, sequence_length=8
        )


def test_by_default_nothing_has_changed():
    plain, words = prepare("textgen", {}), prepare("textgen", {"unit": "word"})
    assert plain.options == {"sequence_length": 128} == prepare("textgen", {"unit": "char"}).options
    assert (
        plain.spec.primary.name == "bits_per_character" and plain.data.fitted == {} and len(plain.data.vocabulary) == 69
    )
    assert words.options == {"sequence_length": 128, "unit": "word"} and words.data_sha256 == plain.data_sha256
    assert words.spec.version == plain.spec.version and words.spec.primary.name == "perplexity"
    resolved = [resolve(RunConfig(task="textgen", model="lstm", option=given)) for given in ((), ("unit=word",))]
    assert resolved[0].job.key == resolve(RunConfig(task="textgen", model="lstm", option=("unit=char",))).job.key
    assert resolved[0].job.key != resolved[1].job.key and resolved[1].budget.batch_size == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"unit": "letter"}, "--option unit=letter must be char or word"),
        ({"unit": "word", "words": 0}, "words=0 must be from 1 to 100,000"),
        ({"unit": "word", "sequence_length": 1}, "from 2 to 65,535 words, not 1"),
        ({"sequence_length": 1}, "from 2 to 65,535 characters, not 1"),
    ],
)
def test_what_no_text_can_have_is_refused(options, says):
    for cls in (TASKS.get("textgen").options, StreamOptions):
        with pytest.raises(UserError, match=says):
            cls(**options)


# ---- the figures ---------------------------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_mean_loss_a_word():
    truth = Truth(np.array([2, 6]), np.arange(2))
    found = score_words(np.array([2 * math.log(8), 6 * math.log(2)]), truth)
    assert found["bits_per_word"] == pytest.approx(1.5) and found["perplexity"] == pytest.approx(2**1.5)
    assert score_words(np.zeros(2), truth)["perplexity"] == TASKS.get("textgen").formed({"unit": "word"}).perfect


def test_baselines_are_of_words_and_n_grams_know_more_than_frequencies(file):
    prepared = prepare("textgen", {"unit": "word", "sequence_length": 32}, "path", data=file)
    scores = fit_baselines(prepared)
    assert set(scores) == {"unigram", "kneser-ney"}
    counts = np.bincount(prepared.data.train.tokens, minlength=len(prepared.data.vocabulary)) + 1
    nats = -np.log(counts / counts.sum())[prepared.data.test.tokens[1:]]
    assert scores["unigram"]["test"]["perplexity"] == pytest.approx(math.exp(nats.mean()))
    # of nine words seven are certain, one is one of three and one of four; n-grams of eight words know the name, too
    assert scores["kneser-ney"]["test"]["perplexity"] == pytest.approx(12 ** (1 / 11), rel=0.05)


def test_a_baseline_whose_figures_rule_it_out_is_found_in_words_too(outcome):
    check_stored(outcome.record, outcome.folder)
    altered = outcome.record.model_copy(update={"baselines": {**outcome.record.baselines, "kneser-ney": 3.0}})
    with pytest.raises(UserError, match="its baseline kneser-ney is 3, but computed"):
        check_stored(altered, outcome.folder)


# ---- how far back ---------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(file):
    """A task of the book, in characters or words, with windows of 16."""
    text = TASKS.get("toy-text")

    @dataclasses.dataclass(frozen=True)
    class Options(StreamOptions):
        sequence_length: int = 16

    def load(source, options):
        lengths = (60_000, 4000, 20_000) if options.unit == "char" else (60_000, 4000, 26_000)
        parts = [book(seed, 3000)[:length] for seed, length in enumerate(lengths)]
        return plain_text.build(tuple(parts), {"toy": "0" * 64}, options, 100, ())

    words = {**plain_text.WORDS, "budgets": text.budgets}
    spec = dataclasses.replace(
        text, name="toy-words", options=Options, load=load, forms={"unit": {"word": words}}, module=__name__
    )
    TASKS.add("toy-words", spec)
    yield
    TASKS.remove("toy-words")


def measured(**options):
    """What the probe makes of a small GRU, and its table and picture."""
    chosen = {"targets": 100, "longest": 64, "hidden": 8, "perturb": True, "sequence_length": 16, **options}
    request, probe = Request(budget="quick", seeds=1), ContextProbe()
    (spec,) = probe.plan(request, ContextOptions(task="toy-words", **chosen), ["gru"], "cpu")
    with settings(torch.device("cpu"), request):
        result = probe.measure(spec, Listener())
    read = TypeAdapter(ContextResult).validate_json(json.dumps(dataclasses.asdict(result)))
    assert read == result
    one = Measured(spec, result, Path("gru"))
    return spec, result, one


def test_the_context_of_a_net_that_reads_words_is_in_words(toy):
    spec, result, one = measured(option=("unit=word",), steps=60)
    assert spec.options["option"] == "unit=word" and "unit=word" in spec.name
    assert result.symbol == "word" and result.metric == "perplexity" and result.chars_per_word is None
    assert set(result.perturbed) == {"intact", "drop", "swap", "shuffle words"}
    assert list(result.perturbed["intact"]) == ["16"]
    prepared = prepare("toy-words", {"unit": "word", "sequence_length": 16})
    assert result.ngrams == pytest.approx(fit_baselines(prepared)["kneser-ney"]["test"]["perplexity"], rel=1e-5)
    probe = ContextProbe()
    assert probe.headline(result).endswith("words")
    _, letters, other = measured(steps=20)
    assert letters.symbol == "character" and letters.chars_per_word > 3 and "shuffle characters" in letters.perturbed
    table = probe.table([one, other])
    assert "effective context in words" in table and "effective context in characters" in table
    assert "words at 1.0%" in table.partition("effective context in words")[0]  # of characters alone
    titles = [panel.title for column in probe.chart([one, other]).columns for panel in column]
    assert any("perplexity a word after k words" in title for title in titles), titles


def test_a_net_that_n_grams_beat_is_said_to_be_no_witness(toy):
    _, weak, one = measured(option=("unit=word",), steps=2)
    assert weak.test > weak.ngrams
    sentence = "gru no better than an n-gram model, which reads a few steps: how far back they read says little."
    assert sentence in ContextProbe().table([one])
    good = dataclasses.replace(one, result=dataclasses.replace(weak, test=weak.ngrams - 0.1))
    assert sentence not in ContextProbe().table([good])


def test_options_of_the_probe_are_of_texts_and_hold_what_the_task_knows(toy):
    with pytest.raises(
        UserError, match="--option is for tasks of kind generate here, and toy-wave is of kind forecast"
    ):
        ContextProbe().plan(Request(), ContextOptions(task="toy-wave", option=("twist=true",)), ["gru"], "cpu")
    with pytest.raises(UserError, match="unit=letter must be char or word"):
        ContextProbe().plan(Request(), ContextOptions(task="toy-words", option=("unit=letter",)), ["gru"], "cpu")
    with pytest.raises(UserError, match="write it as name=value"):
        ContextOptions(option=("word",))


# ---- the commands --------------------------------------------------------------------------------------------------


def test_a_run_leaves_figures_of_words_that_can_be_computed_again(outcome):
    record = outcome.record
    assert record.status == "ok" and record.primary.name == "perplexity" and record.primary.unit == "per word"
    assert record.task.options["unit"] == "word" and set(record.metrics["test"]) >= {"perplexity", "bits_per_word"}
    assert record.skill == pytest.approx(
        (record.primary.value - record.baselines["unigram"]) / (1 - record.baselines["unigram"])
    )
    assert verified(record, outcome.folder) is True
    again = RunRecord.from_json((outcome.folder / "record.json").read_text())
    assert again.primary == record.primary
    table = predicted_test(record, outcome.folder)
    assert set(table) == {"bits", "words", "group"}
    assert 2 ** (table["bits"].sum() / table["words"].sum()) == pytest.approx(record.primary.value, rel=1e-5)
    sample = (outcome.folder / "sample.txt").read_text()
    assert 80 <= len(spelled(sample)) + sample.count("\n") + sample.count(NO_WORD) * 2 <= 160
    assert json.loads((outcome.folder / "model.json").read_text())["fitted"] == {"unit": "word"}


def test_new_text_is_read_in_words(outcome, tmp_path):
    new = tmp_path / "new.txt"
    new.write_text(book(9, 40) + "\nZoe sat.", encoding="utf-8")
    columns = predict_columns(outcome.folder, new)
    assert set(columns) == {"block", "words", "bits"} and columns["words"].sum() == len(spelled(new.read_text())) - 1
    new.write_text("one", encoding="utf-8")
    with pytest.raises(UserError, match="one word alone has nothing before it"):
        predict_columns(outcome.folder, new)


def test_every_command_speaks_of_words(here, file, tmp_path):
    words = ("--data", file, "--task", "textgen", "--option", "unit=word", "--sequence-length", "32")
    shown = here("data", "show", *words[:2], "--task", "textgen", *words[4:], "--plot", "data.html")
    assert shown.returncode == 0 and "perplexity (per word)" in shown.stdout, shown.stderr
    assert "example: 'Ann" in shown.stdout or "on the mat, said" in shown.stdout
    assert "share of the words" in (tmp_path / "data.html").read_text()
    ran = here("run", *words, "--model", "gru", "--hidden", "8", "--budget", "smoke", "--plot", "run.html")
    assert ran.returncode == 0 and "test perplexity (per word), lower is better" in ran.stdout, ran.stderr
    page = (tmp_path / "run.html").read_text()
    assert "bits_per_word" in ran.stdout and "bits per word" in page and "block of 2,048 test words" in page


def test_settings_of_a_run_are_read_again(outcome):
    from seqbench.cli.config import settings_text

    assert 'unit = "word"' in settings_text(outcome.record)


def test_tables_of_words_and_of_characters_are_apart(outcome, file):
    config = RunConfig(
        data=str(file), task="textgen", model="gru", budget="smoke", hidden=(8,), sequence_length=32,
        option=("test=0.3",),
    )  # fmt: skip
    run_cell(config, Store(outcome.folder.parents[3]))
    frame = seqbench.load_results(outcome.folder.parents[3])
    assert isinstance(frame, pd.DataFrame) and frame["conditions"].nunique() == len(frame) == 2
    assert set(frame["metric"]) == {"perplexity", "bits_per_character"}
    assert frame["verified"].all()


def test_how_long_words_take_is_not_told_from_the_table_of_characters(tmp_path, monkeypatch):
    monkeypatch.setattr("seqbench.experiment._measure", lambda experiment: 1234.0)
    experiment = resolve(RunConfig(task="textgen", model="lstm", option=("unit=word",)))
    said = []
    (seconds,) = estimate_seconds([experiment], Store(tmp_path), said.append).values()
    assert seconds > 1234 and said == ["timing textgen lstm, of which no rate is known"]


def test_what_the_data_is_made_of_is_told(file):
    prepared = prepare("textgen", {"unit": "word", "sequence_length": 32}, "path", data=file)
    about = about_data_of(prepared)
    assert about["example"].startswith("'") and " on the mat, said " in about["example"]
    assert about["description"] == "next word of the user's own text" and NO_WORD in about["vocabulary"]
    test = prepared.data.test
    assert isinstance(test, Stream) and test.n_scored == about["sizes"][2]["scored"]
    own = prepare("generate-text", {"unit": "word", "sequence_length": 32}, "path", data=file)
    assert own.spec.primary.name == "perplexity" and np.array_equal(own.data.test.tokens, test.tokens)


def test_a_load_of_words_is_that_of_the_user_file(file, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(book(5, 100), encoding="utf-8")
    options = dataclasses.replace(StreamOptions(), unit="word", sequence_length=16)
    data = plain_text.load(Source("path", {"file": file, "test": other}), options)
    assert data.test.n_scored == len(spelled(book(5, 100))) - 1
