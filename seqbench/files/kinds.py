"""A user's own file as a task by itself: one for each kind and shape of data, and which of them a file is.

``--data FILE`` needs no more than ``--target`` where the file is plain; the kind that is proposed is said, with the
reason. Where it is not plain, the sentence says which words would make it so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from seqbench.config import FLAGS, DataOptions, is_given
from seqbench.errors import UserError
from seqbench.files import nucleotides, pairs, plain_text, residues, runs, series, texts
from seqbench.files.columns import CellOptions, named_columns
from seqbench.readers.archives import shown, suffix_of
from seqbench.readers.sequences import FASTA, GENBANK, NO_BASE
from seqbench.readers.tables import SUFFIXES, Table, read_table
from seqbench.task import SAME, TASKS, Budget, Metric, Training, register_task

__all__ = ["Choice", "choose", "chosen_task"]

Options = TypeVar("Options", bound=DataOptions)
Array = npt.NDArray[Any]


def _budgets(**steps: tuple[int, int, int]) -> dict[str, Budget]:
    """Steps, batch size and evaluations of each; `full` stops when it improves no more."""
    patience = {"full": 20}
    return {name: Budget(*numbers, patience.get(name)) for name, numbers in steps.items()}


TEXTS = _budgets(smoke=(30, 64, 1), quick=(800, 64, 10), standard=(5000, 64, 25), full=(20_000, 64, 100))
DNA = _budgets(smoke=(60, 64, 1), quick=(2000, 64, 5), standard=(8000, 64, 20), full=(60_000, 64, 150))
RUNS = _budgets(smoke=(40, 64, 1), quick=(1200, 64, 6), standard=(10_000, 64, 20), full=(60_000, 64, 120))
SERIES = _budgets(smoke=(40, 64, 1), quick=(1000, 64, 10), standard=(5000, 64, 50), full=(50_000, 64, 500))
CHAINS = _budgets(smoke=(40, 16, 1), quick=(3000, 16, 6), standard=(12_000, 16, 20), full=(120_000, 16, 150))
PAIRS = _budgets(smoke=(20, 32, 1), quick=(1500, 64, 3), standard=(8000, 64, 10), full=(60_000, 64, 100))
STREAM = _budgets(smoke=(40, 16, 1), quick=(1500, 32, 5), standard=(20_000, 32, 20), full=(400_000, 32, 400))


def _register(name: str, kind: str, variant: Mapping[str, Any], **about: Any) -> None:
    fields = {"version": 1, "kind": kind, "own": True, "perfect": 0.0, **variant, **about}
    register_task(name, **{key: value for key, value in fields.items() if key != "load"})(fields["load"])


_register(
    "classify-text", "classify", texts.VARIANT, perfect=1.0, budgets=TEXTS,
    training=Training(learning_rate=4e-3, weight_decay=0.1, dropout=0.5),
)  # fmt: skip
_register(
    "classify-dna", "classify", nucleotides.VARIANT, perfect=1.0, budgets=DNA,
    training=Training(weight_decay=0.1, dropout=0.3),
)  # fmt: skip
_register(
    "classify-series", "classify", runs.VARIANT, perfect=1.0, budgets=RUNS,
    training=Training(learning_rate=4e-3, weight_decay=0.1, dropout=0.3),
)  # fmt: skip
_register(
    "tag-series", "tag", runs.TAGS, perfect=1.0, budgets=RUNS,
    training=Training(learning_rate=4e-3, weight_decay=0.1, dropout=0.3),
)  # fmt: skip
_register(
    "tag-protein", "tag", residues.VARIANT, perfect=1.0, budgets=CHAINS,
    training=Training(learning_rate=1e-2, weight_decay=0.2, dropout=0.2),
)  # fmt: skip
_register(
    "regress-text", "regress", texts.NUMBERS, budgets=TEXTS,
    training=Training(learning_rate=4e-3, weight_decay=0.1, dropout=0.5),
)  # fmt: skip
_register("regress-dna", "regress", nucleotides.NUMBERS, budgets=DNA, training=Training(weight_decay=0.1, dropout=0.3))
_register("regress-series", "regress", runs.NUMBERS, budgets=RUNS, training=Training(weight_decay=0.1, dropout=0.2))
_register(
    "forecast-series", "forecast", series.VARIANT, budgets=SERIES, training=Training(weight_decay=0.1, dropout=0.3)
)
_register(
    "generate-text", "generate", plain_text.VARIANT, budgets=STREAM,
    training=Training(learning_rate=4e-3, dropout=0.0), metrics=(Metric("bits_per_character", "lower", "bits"),),
    score=plain_text.score_bits, reference="unigram",
    baselines=("unigram", "bzip2", "xz", "kneser-ney", "context-mixing"),
)  # fmt: skip
_register("translate-text", "translate", pairs.VARIANT, perfect=100.0, budgets=PAIRS, training=pairs.TRAINING)


# --- which of them a file is -----------------------------------------------------------------------------------------

TARGETS = re.compile("label|target|class|y|sentiment|category|species|outcome|rul")
TEXT_NAMES = ("text", "review", "sentence", "tweet", "comment", "content", "message", "body", "document", "title")
MANY = 20  # different numbers from which a column of them is no column of classes
LONG_TEXT = 15  # characters, on average
SHORT_BASES = 10  # letters that a sequence has, on average, at least
COLUMN_FLAGS = ("target", "features", "drop", "time", "series", "run", "group", "split")
SAMPLE = 1000  # rows that are looked at to tell a text from a category
MEASURED = 2  # columns of numbers, at least, where runs of measurements are told from texts
DNA_SHARE = 0.95  # of the letters of a column of sequences that are A, C, G or T
OF_SHAPE = {"text": "-text", "bases": "-dna"}  # how tasks end of which an example is one cell of a table
OF_CELLS = ("classify", "regress")  # their kinds


@dataclass(frozen=True)
class Choice:
    """The task that a file is, options that go with it, and the sentence on how that was told."""

    task: str
    options: dict[str, str]
    why: str


def chosen_task(named: str, config: Options, say: Callable[[str], None] = lambda line: None) -> tuple[str, Options]:
    """The task of ``config``'s own file, which is ``named`` or told from the file, and ``config`` with its options.

    Raises:
        UserError: the file can't be read, or what is to be predicted of it is not plain.
    """
    if named:
        kind = TASKS.get(named).kind
        if config.kind not in (None, kind):
            raise UserError(f"--task {named} is of kind {kind}, not {config.kind}: leave --task or --kind out.")
        return named, dataclasses.replace(config, kind=None)
    choice = choose(config)
    say(choice.why)
    if choice.task.endswith(tuple(OF_SHAPE.values())):  # what is one cell of a table: the others are not read anyway
        config = dataclasses.replace(config, drop=None)
    given = {SAME.get(name, name) for name in config.task_options} | set(config.task_options)
    more = tuple(f"{name}={value}" for name, value in choice.options.items() if name not in given)
    return choice.task, dataclasses.replace(config, kind=None, option=(*config.option, *more))


def choose(config: DataOptions) -> Choice:
    """What the file of ``config`` is by its name, its columns and what was said of it."""
    assert config.data is not None
    path, kind = Path(config.data), config.kind
    suffix = suffix_of(path)
    if suffix in FASTA and kind == "tag":
        return Choice("tag-protein", {}, f"{path.name}: sequences, each with a record of labels, as --kind tag says.")
    if suffix in FASTA + GENBANK:
        if kind not in (None, *OF_CELLS):
            raise UserError(f"{path.name} holds sequences: their kind is classify or regress, not {kind}.")
        kind = kind or "classify"
        return Choice(f"{kind}-dna", {}, f"{path.name}: sequences with labels, so --kind {kind}.")
    columns = [name for name in COLUMN_FLAGS if is_given(getattr(config, name))]
    if suffix not in SUFFIXES and columns:
        raise UserError(
            f"{path.name} is no table by its name, and --{columns[0]} names a column: give it a name that ends in "
            ".csv, with the names of the columns in its first line."
        )
    if kind == "generate" or suffix not in SUFFIXES:
        if kind not in (None, "generate"):
            raise UserError(
                f"{path.name} is no table by its name: --kind {kind} reads files that end in {', '.join(SUFFIXES)}."
            )
        return Choice("generate-text", {}, f"{path.name}: a text, so --kind generate.")
    if kind == "translate":
        return Choice("translate-text", {}, f"{path.name}: sentences and their translations, so --kind translate.")
    if kind == "forecast" and config.target is not None:
        return Choice("forecast-series", {}, f"{path.name}: --kind forecast of column {config.target}.")
    given = {**dict.fromkeys(FLAGS, ""), **{name: str(value) for name, value in config.task_options.items()}}
    written = {name: given[name] for name in ("date_format", "missing", "decimal")}
    table = read_table(path, form=CellOptions(**written).form)
    return _of_table(table, kind, given)


def _of_table(table: Table, kind: str | None, given: dict[str, str]) -> Choice:
    target = given["target"] or given.get("label", "") or _usual_target(table)
    text = _text_column(table, target, given)
    if not target:
        others = [name for name in table.names if name != text]
        if text and len(others) == 1:
            (target,) = others
        else:
            raise UserError(
                f"what is to be predicted? Give --target COLUMN; {table.file} has: {', '.join(table.names[:20])}"
                f"{', ...' if len(table.names) > 20 else ''}."
            )
    table.require(target)
    shape = _shape(table, text)
    numbers = table.not_numbers(target) is None
    kind = kind or _proposed(table, shape, target, given, numbers=numbers)
    options = {"target": target}
    if kind in ("classify", "tag") and numbers and _distinct(table, target) > MANY:
        options["numbers_as_classes"] = "true"  # it was said, so each number is a class
    if shape in OF_SHAPE:
        if kind not in OF_CELLS:
            raise UserError(
                f"column {shown(text, 60)} holds {_what(shape)}: their kind is classify or regress, not {kind}; "
                "--drop leaves the column out."
            )
        options["features"] = text
        what = "labels" if kind == "classify" else "numbers"
        why = f"{_what(shape)} in column {text} and {what} in column {target}, so --kind {kind}."
        return Choice(kind + OF_SHAPE[shape], options, why)
    if kind == "forecast":
        return Choice("forecast-series", options, f"a time and the numbers of {target}, so --kind forecast.")
    if given["run"]:
        options["run"] = given["run"]
    ending = {"classify": "labels", "regress": "a number", "tag": "a label for every step"}[kind]
    return Choice(f"{kind}-series", options, f"measurements, and {ending} in column {target}, so --kind {kind}.")


def _what(shape: str) -> str:
    return {"text": "texts", "bases": "sequences of DNA"}[shape]


def _usual_target(table: Table) -> str:
    usual = [name for name in table.names if TARGETS.fullmatch(name.lower())]
    return usual[0] if len(usual) == 1 else ""


def _distinct(table: Table, column: str) -> int:
    values = table.numbers(column, missing=True)
    return len(np.unique(values[~np.isnan(values)]))


def _text_column(table: Table, target: str, given: Mapping[str, str]) -> str:
    """The column that holds texts or sequences; "" where there is none.

    The only one of bases, else the only one with a name like text or review, else the only one of long texts.

    Raises:
        UserError: there are several, and none is plainly the one.
    """
    asked = given["features"] or given.get("text", "")
    if given["run"] or given["series"] or given["horizon"]:
        return ""
    if asked:
        named = [name for name in named_columns(table, asked) if table.not_numbers(name) is not None]
        return named[0] if len(named) == 1 else ""
    if _holds_runs(table, target):
        return ""
    elsewhere = {target, given["group"], given["split"]}
    elsewhere |= {*named_columns(table, given["time"]), *named_columns(table, given["drop"])}
    texts_of = {}
    for name in table.names:
        if name not in elsewhere and table.not_numbers(name) is not None and not table.holds_times(name):
            with contextlib.suppress(UserError):
                texts_of[name] = table.texts(name, allow_empty=True)[:SAMPLE]
    bases = [name for name, cells in texts_of.items() if _are_bases(cells)]
    plain = {name: cells for name, cells in texts_of.items() if not _are_links(cells)}
    long = [name for name, cells in plain.items() if _length(cells) >= LONG_TEXT]
    usual = [name for name in plain if name.lower() in TEXT_NAMES] or [
        name for name in plain if set(re.split(r"[^a-z]+", name.lower())) & set(TEXT_NAMES)
    ]
    found = next((names for names in (bases, usual, long) if names), [])
    if len(found) > 1:
        raise UserError(
            f"columns {', '.join(shown(name, 40) for name in found[:5])} could each hold what is read: --features says "
            "which one."
        )
    return found[0] if found else ""


def _length(cells: Sequence[str]) -> float:
    return sum(map(len, cells)) / max(1, len(cells))


def _are_links(cells: Sequence[str]) -> bool:
    return 2 * sum(cell.strip().lower().startswith(("http:", "https:", "www.")) for cell in cells) > len(cells)


def _are_bases(cells: Sequence[str]) -> bool:
    """Whether cells are sequences of DNA or RNA, with or without white space among the letters."""
    letters = "".join("".join(cells).split()).upper()
    bases = sum(letters.count(base) for base in "ACGTUN")
    return (
        len(letters) >= SHORT_BASES * len(cells) and bases >= DNA_SHARE * len(letters) and not NO_BASE.search(letters)
    )


def _holds_runs(table: Table, target: str) -> bool:
    """Whether a column has a usual name of runs, and others hold measurements: a text is a remark then."""
    if not runs.usual_runs(table):
        return False
    return sum(name != target and table.not_numbers(name) is None for name in table.names) >= MEASURED


def _shape(table: Table, text: str) -> str:
    if not text:
        return "series"
    return "bases" if _are_bases(table.texts(text, allow_empty=True)[:SAMPLE]) else "text"


def _proposed(table: Table, shape: str, target: str, given: Mapping[str, str], *, numbers: bool) -> str:
    """The kind, where the file is plain."""
    if given["horizon"] or given["season"] or given["series"]:
        return "forecast"
    if not numbers:
        return "classify"
    distinct, few = _distinct(table, target), _few_whole(table, target)
    runs_named = bool(given["run"] or runs.usual_runs(table))
    if shape == "series" and not runs_named:
        timed = bool(given["time"]) or any(
            name.lower() in runs.TIMES or (table.not_numbers(name) is not None and table.holds_times(name))
            for name in table.names
        )
        if timed and (not few or not _other_numbers(table, target, given)):
            return "forecast"
    if not few:
        choices = "--kind regress predicts the number, --kind classify takes each as a class" + (
            ", --kind forecast predicts what comes next in one series" if shape == "series" and not runs_named else ""
        )
        raise UserError(f"column {shown(target, 60)} holds numbers, {distinct:,} different ones: {choices}.")
    return "classify"


def _few_whole(table: Table, target: str) -> bool:
    """Whether a column's numbers can be names of classes."""
    values = table.numbers(target, missing=True)
    known = np.unique(values[~np.isnan(values)])
    return len(known) <= MANY and bool((known == np.round(known)).all())


def _other_numbers(table: Table, target: str, given: Mapping[str, str]) -> bool:
    """Whether there are measurements beside the target and the times."""
    times = {*named_columns(table, given["time"]), *(name for name in table.names if name.lower() in runs.TIMES)}
    return any(name not in {target, *times} and table.not_numbers(name) is None for name in table.names)
