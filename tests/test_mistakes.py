"""What a new user gets wrong: each mistake is answered with one sentence, and who does what this says goes on."""

import json
import math

import pytest

RUN = ("--task", "weather", "--model", "gru", "--budget", "smoke", "--hidden", "8")


def swap(words, old, new):
    """``words`` with ``old``, one word or several, as ``new``."""
    old, new = ([part] if isinstance(part, str) else list(part) for part in (old, new))
    for at in range(len(words) - len(old) + 1):
        if list(words[at : at + len(old)]) == old:
            return [*words[:at], *new, *words[at + len(old) :]]
    raise AssertionError(f"{old} is not in {words}")


# (the mistake, what is wrong in RUN and how a user wrote it, a part of the sentence, what it says to write instead)
MISTAKES = [
    ("a wrong task", "weather", "wether", "unknown task 'wether': did you mean weather?", "weather"),
    ("a wrong model", "gru", "grru", "unknown model 'grru': did you mean gru or", "gru"),
    ("a wrong choice", "smoke", "smoky", "unknown budget 'smoky': did you mean smoke?", "smoke"),
    ("a misspelt option", "--model", "--modle", "there is no option --modle: did you mean --model?", "--model"),
    ("a value out of range", ("--hidden", "8"), ("--hidden", "0"), "take 1 to 65,536", ("--hidden", "1")),
    ("a value that is no number", ("--hidden", "8"), ("--layers", "two"), "--layers two: that is not a whole number",
     ("--layers", "2", "--hidden", "8")),
    ("another tool's width", "--hidden", "--hidden-size", "no option --hidden-size: it is called --hidden here",
     "--hidden"),
    ("another tool's rate", ("--hidden", "8"), ("--hidden", "8", "--lr", ".01"),
     "there is no option --lr: it is called --learning-rate here", ("--hidden", "8", "--learning-rate", ".01")),
    ("steps", ("--budget", "smoke"), ("--steps", "3"), "choose a budget (smoke, quick, standard or full)",
     ("--budget", "smoke")),
    ("another tool's batch size", ("--hidden", "8"), ("--hidden", "8", "--bs", "16"),
     "there is no option --bs: it is called --batch-size here", ("--hidden", "8", "--batch-size", "16")),
    ("a GPU by another name", ("--hidden", "8"), ("--hidden", "8", "--device", "gpu"), "an NVIDIA GPU is called cuda",
     None),
    ("a GPU that is not there", ("--hidden", "8"), ("--hidden", "8", "--device", "cuda"), "take --device cpu or auto",
     ("--hidden", "8", "--device", "cpu")),
    ("an option of the task that there is not", ("--hidden", "8"), ("--hidden", "8", "--option", "flod=1"),
     "did you mean fold", ("--hidden", "8", "--option", "fold=1")),
    ("a word too many", "gru", ("gru", "lstm"), "nothing here takes the word 'lstm': options begin with two dashes",
     "gru"),
    ("an option given twice", "weather", ("weather", "--task", "dna"), "--task was given twice", "weather"),
    ("a missing value", ("--hidden", "8"), "--hidden", "--hidden needs a value after it", ("--hidden", "8")),
    ("a missing option", ("--model", "gru"), (), "missing: --model", ("--model", "gru")),
    ("a whole number with a fraction", ("--hidden", "8"), ("--hidden", "8", "--seed", "1.5"),
     "--seed 1.5: that is not a whole number", ("--hidden", "8", "--seed", "1")),
    ("nothing as a value", ("--hidden", "8"), ("--hidden", "8", "--out", ""), "--out is empty: give a value",
     ("--hidden", "8", "--out", "here")),
    ("an option of the task given twice", ("--hidden", "8"),
     ("--hidden", "8", "--option", "fold=1", "--option", "fold=2"), "--option fold was given twice",
     ("--hidden", "8", "--option", "fold=1")),
    ("one dash", ("--hidden", "8"), ("--hidden", "8", "-v"), "there is no option -v.", ("--hidden", "8")),
    ("a picture of no known kind", ("--hidden", "8"), ("--hidden", "8", "--plot", "gru.jpg"),
     "must end in .png, .svg or .html", ("--hidden", "8", "--plot", "gru.svg")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "written", "says", "instead"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES]
)
def test_a_mistake_is_one_sentence_and_its_advice_works(cli, here, tmp_path, part, written, says, instead):
    if "cuda" in written and __import__("torch").cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = cli(*swap(RUN, part, written))
    *before, sentence = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert sentence.startswith("seqbench: ") and says in sentence and len(sentence) < 300
    assert all("(once)" in line for line in before) and not list(tmp_path.iterdir())
    if instead is not None:
        done = here(*swap(RUN, part, instead))
        assert done.returncode == 0 and "(this run)" in done.stdout


@pytest.fixture
def load(tmp_path):
    """A user's own series."""
    times = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d} {hour:02d}:00" for day in range(100) for hour in range(24)]
    rows = [f"{time},{10 + 3 * math.sin(i * math.pi / 12) + i % 7 / 10:.3f}" for i, time in enumerate(times)]
    (tmp_path / "load.csv").write_text("\n".join(["time,load", *rows]) + "\n")
    return "load.csv"


def test_an_unknown_column_and_a_missing_file_name_what_there_is(here, load):
    wrong = here(*RUN, "--data", load, "--target", "laod")
    assert wrong.returncode == 2 and "laod" in wrong.stderr and "load" in wrong.stderr.replace("laod", ""), wrong.stderr
    gone = here(*RUN, "--data", "loud.csv", "--target", "load")
    assert gone.returncode == 2 and "loud.csv is not there: is the path right?" in gone.stderr
    right = here(*RUN, "--data", load, "--target", "load")
    assert right.returncode == 0, right.stderr


def test_a_wrong_directory_is_said_and_another_works(here, tmp_path):
    assert here(*RUN, "--out", "here").returncode == 0
    wrong = here("leaderboard")
    assert (
        wrong.returncode == 2 and "no records in results/local: run some first, or name their directory" in wrong.stderr
    )
    right = here("leaderboard", "here")
    assert right.returncode == 0 and "gru" in right.stdout
    (record,) = tmp_path.glob("here/weather/gru/*/run-1")
    wrong = here("config", record.parent)
    assert wrong.returncode == 2 and "Name a run's folder, like run-1." in wrong.stderr
    assert here("config", record).returncode == 0


@pytest.mark.parametrize(
    ("old", "note"),
    [
        (("leaderboard", "here", "--plots", "pictures"), "--plots is written --plot now"),
        (("probe", "context", "--dry-run", "--perturb", "False", "--model", "rnn", "--budget", "smoke"),
         "--perturb False is written --no-perturb now"),
    ],
)  # fmt: skip
def test_an_old_spelling_keeps_answering_with_a_note(here, tmp_path, old, note):
    assert here(*RUN, "--out", "here").returncode == 0
    done = here(*old)
    assert done.returncode == 0 and note in done.stderr, done.stderr
    assert (tmp_path / "pictures").is_dir() == (old[0] == "leaderboard")


def test_settings_of_a_record_run_it_again(here, tmp_path):
    assert here(*RUN, "--option", "fold=1", "--dropout", "0.2").returncode == 0
    (record,) = tmp_path.glob("results/local/weather/gru/*/run-1")
    assert here("config", record, "--out", "run.toml").returncode == 0
    assert "stored result" in here("run", "--config", "run.toml").stdout
    other = here("--config=run.toml", "--seed", "3")  # the command line comes first
    assert "seed 3" in other.stdout and "stored result" not in other.stdout
    (tmp_path / "bad.toml").write_text("lr = 0.1\n")
    bad = here("run", "--config", "bad.toml", *RUN)
    assert bad.returncode == 2 and "bad.toml: there is no option --lr: it is called --learning-rate" in bad.stderr
    (tmp_path / "bad.toml").write_text("hidden = [0]\n")
    assert "--hidden 0 is out of range" in here("run", "--config", "bad.toml", *RUN[:6]).stderr
    (tmp_path / "bad.toml").write_text("hidden = \n")
    assert "bad.toml is not TOML" in here("run", "--config", "bad.toml", *RUN).stderr
    assert "nowhere.toml can't be read" in here("run", "--config", "nowhere.toml", *RUN).stderr


def test_options_of_the_task_in_a_file_and_on_the_command_line_go_together(here, tmp_path):
    lines = ('task = "weather"', 'model = "gru"', "hidden = 8", 'budget = "smoke"', "[option]", "fold = 1", "")
    (tmp_path / "a.toml").write_text("\n".join(lines))
    planned = here("run", "--config", "a.toml", "--option", "sequence_length=48", "--json")
    assert json.loads(planned.stdout)[0]["task"]["options"] == {"sequence_length": 48, "fold": 1, "relative": True}, (
        planned.stderr
    )
    planned = here("run", "--config", "a.toml", "--option", "fold=2", "--sequence-length", "48", "--json")
    assert json.loads(planned.stdout)[0]["task"]["options"] == {"sequence_length": 48, "fold": 2, "relative": True}, (
        planned.stderr
    )


def test_settings_of_a_run_on_an_own_file_ask_for_the_file(here, tmp_path, load):
    assert here(*RUN, "--data", load, "--target", "load").returncode == 0
    (record,) = tmp_path.glob("results/local/weather/gru/*/run-1")
    assert here("config", record, "--out", "own.toml").returncode == 0
    assert "give it with --data FILE" in here("run", "--config", "own.toml").stderr
    assert "stored result" in here("run", "--config", "own.toml", "--data", load).stdout
    assert "stored result" in here("run", "--config", "own.toml", "--data", load, "--target", "load").stdout


def test_options_of_every_command_may_stand_before_it(here):
    assert "budgets" in json.loads(here("--json", "list", "budgets").stdout)


def test_the_version_is_told(cli):
    import seqbench.environment

    assert cli("--version").stdout.strip() == seqbench.environment.seqbench_version()


def test_a_name_with_nul_in_it_is_one_sentence(here, tmp_path):
    run = ("--task", "toy-wave", "--model", "rnn", "--budget", "smoke")
    for words in ((*run, "--out", "a\0b"), (*run, "--data", "a\0b"), ("predict", "a\0", "b"), ("leaderboard", "a\0")):
        done = here(*words)
        assert done.returncode == 2 and "holds the character NUL" in done.stderr, done.stderr
    for line in ('out = "a\\u0000b"', 'data = "a\\u0000b"', '[option]\nx = "a\\u0000b"'):
        (tmp_path / "run.toml").write_text(f'task = "toy-wave"\nmodel = "rnn"\n{line}\n')
        done = here("--config", "run.toml")
        assert done.returncode == 2 and "run.toml holds the character NUL" in done.stderr, done.stderr


def test_a_file_of_options_names_the_users_data(here, tmp_path):
    (tmp_path / "run.toml").write_text('task = "dna"\nmodel = "rnn"\nbudget = "smoke"\ndata = "nowhere.fa"\n')
    done = here("--config", "run.toml")
    assert done.returncode == 2 and "nowhere.fa" in done.stderr and "is not there" in done.stderr
    done = here("--config", "run.toml", "--data", "elsewhere.fa")  # the command line comes first
    assert done.returncode == 2 and "elsewhere.fa" in done.stderr
