"""The configuration of one cell: a frozen dataclass from which the command line and `seqbench.run` are both derived."""

from __future__ import annotations

import dataclasses
import operator
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from seqbench.errors import UserError, nearest

__all__ = ["RunConfig", "parse_count", "parse_options_text", "parse_widths"]


def parse_widths(text: str) -> tuple[int, ...]:
    """``"128"`` or ``"128,64"`` to a tuple of widths."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a width or widths like 128,64") from None


def parse_count(text: str) -> int:
    """``"100k"``, ``"1.5m"`` or ``"100000"`` to a whole number."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower())
    try:
        return round(float(text[:-1]) * scale) if scale else int(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a number like 100k") from None


def parse_options_text(pairs: tuple[str, ...]) -> dict[str, str]:
    """``("ticker=IBM",)`` to ``{"ticker": "IBM"}``."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--option {pair}: write it as name=value.")
        options[name] = value
    return options


Widths = Annotated[
    tuple[int, ...] | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="N[,N...]",
        instance_from_str=lambda words: parse_widths(words[0]),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value or WIDTH))],
    ),
]
Count = Annotated[
    int | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="N|Nk",
        instance_from_str=lambda words: parse_count(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value).lower()],
    ),
]
WIDTH = (128,)  # where neither --hidden nor --params is given


@dataclass(frozen=True)
class RunConfig:
    """Train one model on one task and leave a record."""

    task: str
    """Task to train on, several with commas, or all: see `list tasks`."""
    model: str
    """Model to train, several with commas, or all: see `list models`."""
    budget: Literal["smoke", "quick", "standard", "full"] = "quick"
    """How much training: seconds, about a minute, a careful comparison, or until it stops improving."""
    seed: int = 0
    """Seed of initialisation, dropout and batch order; the split never depends on it."""
    option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """An option of the task as name=value; may be given again. See `data show TASK`."""
    sequence_length: Annotated[int | None, tyro.conf.arg(metavar="T")] = None
    """Short for --option sequence_length=N."""
    source: Literal["embedded", "hub", "path"] = "embedded"
    """Where the data comes from: with the package, the canonical set (see `data fetch`), or your own file."""
    data: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Your own file instead of the task's data; says --source path."""
    target: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Short for --option target=COLUMN: what is predicted of your own file."""
    hidden: Widths = None
    """Width of the mixer layers, one for each or one for all."""
    layers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of mixer layers; by default as many as there are widths."""
    params: Count = None
    """Instead of --hidden: the width whose parameter count is nearest to this."""
    backbone: Literal["bare", "residual"] = "bare"
    """Stack the layers as they are, or wrap each in norm and skip."""
    dropout: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Share of values dropped after each mixer layer in training; by default the task's."""
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Peak learning rate of AdamW; by default the task's."""
    weight_decay: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Decoupled weight decay of AdamW; by default the task's."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls along a cosine to zero (`full`: stays)."""
    clip: float = 1.0
    """Norm to which gradients are clipped."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Number format of the matrix products."""
    threads: int = 1
    """CPU threads; one is nearly as fast as two for recurrent models, and leaves the other core to another cell."""
    control: Literal["none", "shuffle-labels"] = "none"
    """Train on permuted targets: what is then learned is an artefact."""

    def __post_init__(self) -> None:
        """Refuse values that no run could use; the sentence names the option."""
        if self.data is not None:
            object.__setattr__(self, "data", str(self.data))
            if self.source == "hub":
                raise UserError("--data is your own file and --source hub the canonical set: give one.")
            object.__setattr__(self, "source", "path")
        _check_choices(self)
        _coerce(self)
        rules = {
            "hidden": self.hidden is None or (self.hidden and all(1 <= width <= 65_536 for width in self.hidden)),
            "layers": self.layers is None or 1 <= self.layers <= 1_000,
            "params": self.params is None or self.params >= 1,
            "sequence_length": self.sequence_length is None or self.sequence_length >= 1,
            "seed": 0 <= self.seed < 2**32,
            "dropout": self.dropout is None or 0.0 <= self.dropout < 1.0,
            "learning_rate": self.learning_rate is None or 0.0 < self.learning_rate < float("inf"),
            "weight_decay": self.weight_decay is None or 0.0 <= self.weight_decay < float("inf"),
            "warmup": 0.0 <= self.warmup < 1.0,
            "source": self.source != "path" or self.data is not None,
            "clip": 0.0 < self.clip < float("inf"),
            "threads": 1 <= self.threads <= 1_024,
        }
        for name, good in rules.items():
            if not good:
                shown = getattr(self, name)
                shown = ",".join(map(str, shown)) if isinstance(shown, tuple) else shown
                raise UserError(f"--{name.replace('_', '-')} {shown} is out of range: {_RANGES[name]}.")
        given = self.hidden or ()
        if self.layers is not None and len(given) > 1 and self.layers != len(given):
            raise UserError(f"--layers {self.layers} contradicts --hidden with {len(given)} widths: give one.")
        if self.params is not None and given:
            raise UserError("--params finds the width itself: leave --hidden out.")
        named = {name.replace("-", "_") for name in parse_options_text(self.option)}
        for name in ("sequence_length", "target"):
            if getattr(self, name) is not None and name in named:
                raise UserError(f"--{name.replace('_', '-')} and --option {name}=... say the same: give one.")

    @property
    def name(self) -> str:
        """What a reader tells the run by."""
        rate = "" if self.learning_rate is None else f", rate {self.learning_rate:g}"
        return f"{self.task} {self.model} seed {self.seed}{rate}"

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

    @property
    def task_options(self) -> dict[str, Any]:
        """What was said of the task's options, unconverted."""
        given: dict[str, Any] = dict(parse_options_text(self.option))
        for name in ("sequence_length", "target"):
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        return given


_RANGES = {
    "hidden": "widths are whole numbers from 1 to 65536",
    "layers": "take 1 to 1000",
    "params": "take a whole number above 0, like 100k",
    "sequence_length": "take at least 1",
    "source": "give the file with --data FILE",
    "seed": "take a whole number from 0 to 4294967295",
    "dropout": "take at least 0 and less than 1",
    "learning_rate": "take a number above 0",
    "weight_decay": "take 0 or more",
    "warmup": "take at least 0 and less than 1",
    "clip": "take a number above 0; a very large one turns clipping off",
    "threads": "take 1 to 1024",
}


_WHOLE = ("seed", "threads", "layers", "params", "sequence_length")
_REAL = ("dropout", "learning_rate", "weight_decay", "warmup", "clip")


def _coerce(config: RunConfig) -> None:
    """Write alike what is alike, so that ``dropout=0`` and ``0.0`` are one cell; refuse what is no number."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value is None:
            continue
        try:
            if item.name == "hidden":
                value = tuple(map(operator.index, value if isinstance(value, (tuple, list)) else (value,)))
            elif item.name in _WHOLE:
                value = operator.index(value)
            elif item.name in _REAL:
                value = float(operator.pos(value))  # of a number only: float() alone would read text too
        except TypeError:
            raise UserError(f"{item.name}={value!r} is not a number.") from None
        object.__setattr__(config, item.name, value)


def _check_choices(config: RunConfig) -> None:
    """The command line refuses unknown choices itself; calls from Python come through here."""
    hints = typing.get_type_hints(RunConfig)
    for item in dataclasses.fields(RunConfig):
        if typing.get_origin(hints[item.name]) is Literal:
            choices = typing.get_args(hints[item.name])
            if getattr(config, item.name) not in choices:
                raise UserError(nearest(str(getattr(config, item.name)), choices, item.name))
