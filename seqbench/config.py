"""The configuration of one cell: a frozen dataclass from which the command line and `seqbench.run` are both derived."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from seqbench.errors import UserError, nearest
from seqbench.options import (
    COLUMNS,
    DATA,
    MACHINE,
    MODEL,
    OUTPUT,
    TRAINING,
    WHAT,
    AtOnce,
    Count,
    Device,
    Flag,
    Parameter,
    Range,
    Share,
    Shares,
    Texts,
    TimeLimit,
    TwoShares,
    Widths,
    brief,
    check_options,
    parse_count,
)

__all__ = [
    "ADDED",
    "FLAGS",
    "FRAME_OPTIONS",
    "METHODS",
    "DataOptions",
    "GridOptions",
    "Placement",
    "RunConfig",
    "TuneOptions",
    "is_given",
    "parse_options_text",
]


def parse_options_text(pairs: tuple[str, ...]) -> dict[str, str]:
    """``("ticker=IBM",)`` to ``{"ticker": "IBM"}``."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--option {pair}: write it as name=value.")
        if name in options:
            raise UserError(f"--option {name} was given twice: give it once.")
        options[name] = value
    return options


WIDTH = (128,)  # where neither --hidden nor --params is given


Column = Annotated[str | None, Parameter(group=COLUMNS, metavar="COLUMN")]
ColumnList = Annotated[str | None, Parameter(group=COLUMNS, metavar="COLUMN[,...]")]
Steps = Annotated[int | None, Range(ge=1), Parameter(group=DATA, metavar="N")]
Kind = Literal["classify", "forecast", "regress", "tag", "generate", "translate"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data of a task is meant; what is None is left to the task."""

    data: Annotated[str | None, Parameter(group=DATA, metavar="FILE")] = None
    """Your own file instead of a task's data; says --source path."""
    kind: Annotated[Kind | None, Parameter(group=DATA)] = None
    """What is predicted of your own file: label, steps ahead, number, step by step, next letter, translation."""
    dataset: Annotated[str | None, Parameter(name="--name", group=DATA, metavar="NAME")] = None
    """What your data set is called on the board; by default as its file."""
    test: Annotated[str | None, Parameter(group=DATA, metavar="FILE")] = None
    """A second file of yours that is the test set, as it was published."""
    source: Annotated[Literal["embedded", "hub", "path"], Parameter(group=DATA)] = "embedded"
    """Where the data comes from: with the package, the canonical set (see `data fetch`), or your own file."""
    sequence_length: Annotated[int | None, Range(ge=1), Parameter(group=DATA, metavar="T")] = None
    """Steps, words, bases or characters that a model reads at a time."""
    horizon: Steps = None
    """Steps ahead that are forecast."""
    season: Steps = None
    """Steps after which a series repeats itself; by default from its time step."""
    option: Annotated[Texts, Parameter(group=DATA, metavar="NAME=VALUE")] = ()
    """An option of the task; may be given again. See `data show TASK`."""
    target: Column = None
    """Column that is predicted."""
    features: ColumnList = None
    """Columns that are read; by default all that can be."""
    drop: ColumnList = None
    """Columns that are not read."""
    time: ColumnList = None
    """Column of times, or two: of the date and of the time of day."""
    series: ColumnList = None
    """Column that tells several series in one file apart."""
    run: ColumnList = None
    """Column (or several) that tells runs apart, which stay whole."""
    group: Column = None
    """Column of what must not stand on both sides of a split: a patient, an author, a machine."""
    split: Column = None
    """Column that says train, validation or test, as it was published."""
    date_format: Annotated[str | None, Parameter(group=COLUMNS, metavar="FORMAT")] = None
    """How dates are written where that is not plain: %d/%m/%Y."""
    missing: Annotated[Texts, Parameter(group=COLUMNS, metavar="TEXT", allow_leading_hyphen=True)] = ()
    """What stands where a value is missing: ? or -9999; may be given again."""
    decimal: Annotated[Literal[".", ","] | None, Parameter(group=COLUMNS)] = None
    """The mark before decimals where that is not plain."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; the sentence names the option."""
        for name in ("data", "test"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _path(name, getattr(self, name)))
        if self.data is not None:
            if self.source == "hub":
                raise UserError("--data is your own file and --source hub the canonical set: give one.")
            object.__setattr__(self, "source", "path")
        check_options(self)
        if self.source == "path" and self.data is None:
            raise UserError("--source path is your own file: give it with --data FILE.")
        for name, flag in (("kind", "kind"), ("dataset", "name"), ("test", "test")):
            if getattr(self, name) is not None and self.data is None:
                raise UserError(f"--{flag} is for a file of your own: give it with --data FILE, too.")
        if self.dataset is not None:
            check_dataset(self.dataset)
        named = {name.replace("-", "_") for name in parse_options_text(self.option)}
        for name in FLAGS:
            if is_given(getattr(self, name)) and name in named:
                raise UserError(f"--{name.replace('_', '-')} and --option {name}=... say the same: give one.")

    @property
    def task_options(self) -> dict[str, Any]:
        """What was said of the task's options, unconverted."""
        given: dict[str, Any] = dict(parse_options_text(self.option))
        for name in FLAGS:
            value = getattr(self, name)
            if is_given(value):
                given[name] = ",".join(value) if isinstance(value, tuple) else value
        return given

    @property
    def data_name(self) -> str | None:
        """What a data set of the user's is called."""
        if self.data is None:
            return None
        return self.dataset or dataset_name(self.data)


FRAME_OPTIONS = (
    "frame",
    "attention",
    "beam",
)  # fields of `RunConfig` that are for some kinds of task only: `Head.options`
# fields of `RunConfig` that came after records were published: at its default one stands in no record, and in no key
ADDED = (
    *("recipe", "embedding", "dense", "epochs", "batch_size", "patience", "optimizer", "schedule", "plateau_patience"),
    *("recurrent_dropout", "zoneout", "max_norm", "frame", "attention", "beam", "carry_state"),
)
# fields that are short for --option NAME=...
FLAGS = (
    *("sequence_length", "horizon", "season", "target", "features", "drop", "time", "series", "run", "group", "split"),
    *("date_format", "missing", "decimal"),
)
LONGEST_NAME = 60


def is_given(value: Any) -> bool:
    """Whether an option was given: it is neither None nor an empty tuple."""
    return value is not None and not (isinstance(value, tuple) and not value)


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise UserError(f"--{name} is the path of a file: write what you have into one.")
    text = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"--{name} {brief(value)} is no path of a file.")
    return text


def check_dataset(name: str) -> None:
    """Raise `UserError` for what is no name of a data set: it stands in tables and titles."""
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise UserError(f"--name {brief(name)} must be one line of 1 to {LONGEST_NAME} letters that can be printed.")


def dataset_name(path: str) -> str:
    """A data set's name from its file's: without endings, and without what can't be printed."""
    stem = Path(path).name.partition(".")[0]
    kept = "".join(letter for letter in stem if letter.isprintable()).strip()[:LONGEST_NAME]
    return kept or "own data"


@dataclass(frozen=True, kw_only=True)
class RunConfig(DataOptions):
    """Train one model on one task and leave a record."""

    task: Annotated[str, Parameter(group=WHAT, metavar="NAME")] = ""
    """Task to train on, several with commas, or all: see `list tasks`. Not needed with --data."""
    model: Annotated[str, Parameter(group=WHAT, metavar="NAME")]
    """Model to train, several with commas, or all: see `list models`."""
    budget: Annotated[Literal["smoke", "quick", "standard", "full"], Parameter(group=WHAT)] = "quick"
    """How much training: seconds, about a minute, a careful comparison, or until it stops improving."""
    seed: Annotated[int, Range(ge=0, le=2**32 - 1), Parameter(group=WHAT, metavar="N")] = 0
    """Seed of initialisation, dropout and batch order; the split never depends on it."""
    control: Annotated[Literal["none", "shuffle-labels"], Parameter(group=WHAT)] = "none"
    """Train on permuted targets: what is then learned is an artefact."""
    recipe: Annotated[str | None, Parameter(group=WHAT, metavar="NAME")] = None
    """A documented configuration: lstm-stock, lstm-text (`list recipes`); options given beside it come first."""
    hidden: Annotated[Widths, Parameter(group=MODEL)] = None
    """Width of the mixer layers, one for each or one for all; by default 128."""
    layers: Annotated[int | None, Range(ge=1, le=1_000), Parameter(group=MODEL, metavar="N")] = None
    """Number of mixer layers; by default as many as there are widths."""
    params: Annotated[Count, Range(ge=1), Parameter(group=MODEL)] = None
    """Instead of --hidden: the width whose parameter count is nearest to this, like 100k."""
    backbone: Annotated[Literal["bare", "residual"], Parameter(group=MODEL)] = "bare"
    """Stack the layers as they are, or wrap each in norm and skip."""
    embedding: Annotated[int | None, Range(ge=0, le=65_536), Parameter(group=MODEL, metavar="N")] = None
    """Width in which inputs are embedded; by default that of the first layer; 0: numbers are read as they are."""
    dense: Annotated[Widths, Parameter(group=MODEL)] = None
    """Widths of dense layers with ReLU that stand before the output; by default there are none."""
    frame: Annotated[Literal["encoder-decoder", "decoder"], Parameter(group=MODEL)] = "encoder-decoder"
    """Of a task that translates: one stack reads and another writes, or one does both, source and target in a row."""
    attention: Annotated[Literal["dot", "none"] | None, Parameter(group=MODEL)] = None
    """How the decoder looks back at the source: by dot products, or not, with a vector; by default as the frame can."""
    beam: Annotated[int, Range(ge=1, le=64), Parameter(group=MODEL, metavar="N")] = 1
    """Translations that are kept in mind while one is written; 1 takes the likeliest piece each time."""
    epochs: Annotated[int | None, Range(ge=1, le=1_000_000), Parameter(group=TRAINING, metavar="N")] = None
    """Instead of the budget's steps: so often each example, with validation after each time (`smoke` cuts it short)."""
    batch_size: Annotated[int | None, Range(ge=1, le=1_000_000), Parameter(group=TRAINING, metavar="N")] = None
    """Sequences in a step; by default the budget's (`list budgets`). Steps are as many as read as many sequences."""
    patience: Annotated[int | None, Range(ge=1, le=1_000_000), Parameter(group=TRAINING, metavar="N")] = None
    """Stop after so many evaluations (of --epochs, epochs) without a better one; by default the budget's."""
    optimizer: Annotated[Literal["adamw", "adam"], Parameter(group=TRAINING)] = "adamw"
    """Optimiser; adam has no weight decay unless it is given, and adds it to the gradient."""
    learning_rate: Annotated[float | None, Range(gt=0, lt=math.inf), Parameter(group=TRAINING, metavar="X")] = None
    """Peak learning rate; by default the task's."""
    dropout: Annotated[Shares, Parameter(group=TRAINING)] = None
    """Share of values dropped after each mixer layer in training, one for all or for each; by default the task's."""
    recurrent_dropout: Annotated[Share, Parameter(group=TRAINING, metavar="X")] = 0.0
    """Share of the state that recurrent products do not see in training, the same at all steps of a sequence."""
    zoneout: Annotated[TwoShares, Parameter(group=TRAINING)] = ()
    """Probability that a unit keeps its last value at a step of training: of cells,states, or of both."""
    max_norm: Annotated[float | None, Range(gt=0, lt=math.inf), Parameter(group=TRAINING, metavar="X")] = None
    """Norm to which the incoming weights of each unit of the mixer layers are scaled down after each step."""
    carry_state: Annotated[Flag, Parameter(group=TRAINING)] = False
    """Text: read it in order and go on with the state of the window before; gradients end at a window's border."""
    weight_decay: Annotated[float | None, Range(ge=0, lt=math.inf), Parameter(group=TRAINING, metavar="X")] = None
    """Weight decay, of AdamW decoupled; by default the task's."""
    schedule: Annotated[Literal["cosine", "plateau"], Parameter(group=TRAINING)] = "cosine"
    """After warm-up the learning rate falls along a cosine, or is divided by 10 where validation gets no better."""
    plateau_patience: Annotated[int | None, Range(ge=1, le=1_000_000), Parameter(group=TRAINING, metavar="N")] = None
    """Evaluations without a better one after which --schedule plateau does so; by default 5."""
    warmup: Annotated[float, Range(ge=0, lt=1), Parameter(group=TRAINING, metavar="X")] = 0.05
    """Share of the steps in which the learning rate rises; then it falls along a cosine to zero (`full`: stays)."""
    clip: Annotated[float, Range(gt=0, lt=math.inf), Parameter(group=TRAINING, metavar="X")] = 1.0
    """Norm to which gradients are clipped; a very large one turns clipping off."""
    device: Annotated[Device, Parameter(group=MACHINE)] = "auto"
    """Device to train on; auto takes CUDA if there is one, else the CPU."""
    precision: Annotated[Literal["fp32", "tf32", "bf16"], Parameter(group=MACHINE)] = "fp32"
    """Number format of the matrix products."""
    kernel: Annotated[Literal["auto", "torch", "fast"], Parameter(group=MACHINE)] = "auto"
    """Whose code runs the layers: torch's own, this package's (fast), or of each what is faster."""
    threads: Annotated[int, Range(ge=1, le=1_024), Parameter(group=MACHINE, metavar="N")] = 1
    """CPU threads; one is nearly as fast as two for recurrent models, and leaves the other core to another cell."""

    def __post_init__(self) -> None:
        """Refuse values that no run could use; the sentence names the option."""
        if isinstance(self.params, str):  # as the command line has it
            try:
                object.__setattr__(self, "params", parse_count(self.params))
            except ValueError as error:
                raise UserError(f"--params: {error}.") from None
        super().__post_init__()
        if not self.task and self.data is None:
            raise UserError("missing: --task (see `list tasks`), or a file of your own with --data FILE.")
        self._tidy_zoneout()
        given = self.hidden or ()
        if self.layers is not None and len(given) > 1 and self.layers != len(given):
            raise UserError(f"--layers {self.layers} contradicts --hidden with {len(given)} widths: give one.")
        if self.params is not None and given:
            raise UserError("--params finds the width itself: leave --hidden out.")
        if self.frame == "decoder" and self.attention == "dot":
            raise UserError("--attention dot looks back at what an encoder has read: leave it or --frame decoder out.")
        if self.plateau_patience is not None and self.schedule != "plateau":
            raise UserError("--plateau-patience is for --schedule plateau: give that, too, or leave it out.")
        self._check_dropout()

    def _check_dropout(self) -> None:
        """Hold --dropout to the number of layers; what is the same for all is written as one share."""
        if not isinstance(self.dropout, tuple):
            return
        if len(self.dropout) not in (1, self.n_layers):
            layers = f"{self.n_layers} layer{'s' * (self.n_layers > 1)}"
            raise UserError(
                f"--dropout gives {len(self.dropout)} shares, and the model has {layers}: give one share for each "
                "layer, or one for all."
            )
        if len(set(self.dropout)) == 1:
            object.__setattr__(self, "dropout", self.dropout[0])

    def _tidy_zoneout(self) -> None:
        """What means the same is written the same: none at all, or one share for both."""
        if len(self.zoneout) > 2:
            raise UserError("--zoneout takes one share, or two with a comma: of cells and of states.")
        once = tuple(dict.fromkeys(self.zoneout))
        shorter = once if len(once) < 2 else self.zoneout
        object.__setattr__(self, "zoneout", shorter if any(shorter) else ())

    @property
    def name(self) -> str:
        """What a reader tells the run by."""
        rate = "" if self.learning_rate is None else f", rate {self.learning_rate:g}"
        return f"{self.data_name or self.task} {self.model} seed {self.seed}{rate}"

    @property
    def alike(self) -> tuple[str, ...]:
        """What it shares with runs that take about as long."""
        return self.task, self.model

    @property
    def place(self) -> tuple[str, ...]:
        """The folders below a store's root under which its runs lie."""
        return self.task, self.model

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)

    @property
    def n_layers(self) -> int:
        """Number of mixer layers."""
        return self.layers or len(self.hidden or WIDTH)

    @property
    def widths(self) -> tuple[int, ...]:
        """One width a layer, as --hidden and --layers say (before --params)."""
        widths = self.hidden or WIDTH
        return widths if len(widths) > 1 else widths * self.n_layers


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the processes run that a command starts."""

    executor: Annotated[Literal["local", "ray"], Parameter(group=MACHINE)] = "local"
    """Where processes run: on this machine, or on the nodes of a Ray cluster."""
    address: Annotated[str | None, Parameter(group=MACHINE, metavar="HOST:PORT")] = None
    """The Ray cluster; auto: the one that this machine belongs to."""
    gpus_per_cell: Annotated[float | None, Range(gt=0, le=1), Parameter(group=MACHINE, metavar="X")] = None
    """Share of a GPU of the Ray cluster that each takes, such as 0.25; by default a whole one, if they use one."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_options(self)
        if self.executor == "local":
            for name in ("address", "gpus_per_cell"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"--{name.replace('_', '-')} is for --executor ray: give that, too, or leave it out."
                    )
        elif self.address is None:
            raise UserError(
                "--executor ray needs the cluster: give --address HOST:PORT, or --address auto on a machine of it."
            )

    @property
    def here(self) -> bool:
        """Whether processes run on this machine."""
        return self.executor == "local"


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """How many cells, and how they are run."""

    seeds: Annotated[int, Range(ge=1, le=10_000), Parameter(group=WHAT, metavar="N")] = 1
    """Number of seeds, counted from --seed."""
    tune_learning_rate: Annotated[Flag, Parameter(group=TRAINING)] = False
    """Try each model at .001, .003 and .01 with seed 0, beyond while the best is an edge, and go on with the best."""
    jobs: AtOnce = None
    """Cells that run at once, each in a process of its own; by default 1, on a cluster as many as it has room for."""
    time_limit: TimeLimit = None
    """Seconds after which a cell is ended; by default by budget: 10 minutes, 2 hours, a day, a week."""
    force: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Run again even if there is a stored result; the old record stays beside the new one."""

    def __post_init__(self) -> None:
        """Refuse what no grid could use."""
        check_options(self)


METHODS = ("tpe", "random", "grid", "doubling")


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How many trials of tuning, and how they are chosen and run."""

    trials: Annotated[int, Range(ge=1, le=10_000), Parameter(group=WHAT, metavar="N")] = 20
    """Trials of each study, the same number for every task and model."""
    method: Annotated[str, Parameter(group=WHAT, metavar="NAME[,NAME...]")] = "tpe"
    """How trials are chosen: tpe (Bayesian), random, grid or doubling; several with commas, a study of each."""
    seeds: Annotated[int, Range(ge=1, le=10_000), Parameter(group=WHAT, metavar="N")] = 1
    """Studies of each method, with seeds counted from --seed; a study's seed is that of its trainings, too."""
    wave: Annotated[int, Range(ge=1, le=1_000), Parameter(group=WHAT, metavar="N")] = 4
    """Trials that are chosen at once, from the results of those before them: the same ones whatever --jobs."""
    no_pruning: Annotated[Flag, Parameter(group=TRAINING)] = False
    """Train every trial to its end; else one ends when validation is not among the best third of those before it."""
    jobs: AtOnce = None
    """Trials that run at once, each in a process of its own; by default 1, on a cluster as many as it has room for."""
    time_limit: TimeLimit = None
    """Seconds after which a trial is ended; by default by budget: 10 minutes, 2 hours, a day, a week."""

    def __post_init__(self) -> None:
        """Refuse what no study could use."""
        check_options(self)
        for name in self.methods:
            if name not in METHODS:
                raise UserError(nearest(name, METHODS, "method"))

    @property
    def methods(self) -> tuple[str, ...]:
        """Each method once, in the order given."""
        return tuple(dict.fromkeys(name.strip() for name in self.method.split(",")))
