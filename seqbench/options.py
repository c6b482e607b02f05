"""What an option is: its group in the help, how its text is read, and which values it may have.

Options are the fields of frozen dataclasses. The command line is made of them, Python's callers give them as arguments,
and `check_options` holds both to the same ranges and choices, which stand in the fields' types.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Group, Parameter

from seqbench.errors import UserError, nearest

if TYPE_CHECKING:
    from cyclopts import Token

__all__ = [
    "COLUMNS",
    "COMMAS",
    "DATA",
    "MACHINE",
    "MODEL",
    "OUTPUT",
    "TRAINING",
    "WHAT",
    "Count",
    "Device",
    "Flag",
    "Jobs",
    "Parameter",
    "Range",
    "Share",
    "Shares",
    "Texts",
    "TimeLimit",
    "TwoShares",
    "Width",
    "Widths",
    "brief",
    "check_options",
    "parse_count",
    "parse_widths",
    "unknown_choice",
]


class Range(NamedTuple):
    """Bounds of a number, to stand in its type: ``Annotated[int, Range(ge=1, le=1_000)]``."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


# Groups of options, in the order in which --help shows them.
WHAT = Group("What", sort_key=1)
DATA = Group("Data", sort_key=2)
COLUMNS = Group("Columns of your own table", sort_key=2.5)
MODEL = Group("Model", sort_key=3)
TRAINING = Group("Training", sort_key=4)
MACHINE = Group("Machine", sort_key=6)
OUTPUT = Group("Output", sort_key=7)


def parse_widths(text: str) -> tuple[int, ...]:
    """``"128"`` or ``"128,64"`` to a tuple of widths."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number, or several like 128,64") from None


def parse_shares(text: str) -> float | tuple[float, ...]:
    """``".3"`` to a share, ``".3,.2"`` to several."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a number, or several like .3,.2") from None
    return shares if len(shares) > 1 else shares[0]


def parse_count(text: str) -> int:
    """``"100k"``, ``"1.5m"`` or ``"100000"`` to a whole number."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower())
    try:
        return round(float(text[:-1]) * scale) if scale else int(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a number like 100k") from None


def _read_widths(hint: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    return parse_widths(tokens[0].value)


def _read_shares(hint: Any, tokens: Sequence[Token]) -> float | tuple[float, ...]:
    return parse_shares(tokens[0].value)


def _read_two_shares(hint: Any, tokens: Sequence[Token]) -> tuple[float, ...]:
    shares = parse_shares(tokens[0].value)
    return shares if isinstance(shares, tuple) else (shares,)


def _read_count(hint: Any, tokens: Sequence[Token]) -> int:
    return parse_count(tokens[0].value)


Width = Annotated[int, Range(ge=1, le=65_536)]
COMMAS = Parameter(converter=_read_widths, n_tokens=1, metavar="N[,N...]")  # of whole numbers
Widths = Annotated[tuple[Width, ...] | None, COMMAS]
Share = Annotated[float, Range(ge=0, lt=1)]
Shares = Annotated[Share | tuple[Share, ...] | None, Parameter(converter=_read_shares, n_tokens=1, metavar="X[,X...]")]
TwoShares = Annotated[tuple[Share, ...], Parameter(converter=_read_two_shares, n_tokens=1, metavar="X[,X]")]
Count = Annotated[int | None, Parameter(converter=_read_count, n_tokens=1, metavar="N|Nk")]
Flag = Annotated[bool, Parameter(negative="")]
Texts = tuple[str, ...]  # an option that may be given again
Jobs = Annotated[int, Range(ge=1, le=1_000), Parameter(group=MACHINE, metavar="N")]
AtOnce = Annotated[int | None, Range(ge=1, le=1_000), Parameter(group=MACHINE, metavar="N")]
TimeLimit = Annotated[float | None, Range(gt=0, lt=math.inf), Parameter(group=MACHINE, metavar="SECONDS")]
Device = Literal["auto", "cpu", "cuda", "mps"]


def check_options(options: Any) -> None:
    """Hold every field of the dataclass ``options`` to its type, range and choices; call it in ``__post_init__``.

    What is alike is written alike: ``dropout=0`` becomes 0.0, a list of widths a tuple, numpy's numbers Python's.

    Raises:
        UserError: a value that is out of range, no choice or of another type; the sentence names the option.
    """
    cls: Any = type(options)
    for name, hint in _hints(cls).items():
        object.__setattr__(options, name, _fitting(name, getattr(options, name), hint))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """The annotated types of ``cls``'s own fields; those that hold options of their own check themselves."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {item.name: hints[item.name] for item in dataclasses.fields(cls)}
    return {name: hint for name, hint in fields.items() if not dataclasses.is_dataclass(_plain(hint)[0])}


def _plain(hint: Any) -> tuple[Any, Range | None]:
    """A type without its annotations, and the range that stands among these."""
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    inner, *about = typing.get_args(hint)
    plain, within = _plain(inner)
    return plain, next((one for one in about if isinstance(one, Range)), within)


def _fitting(name: str, value: Any, hint: Any) -> Any:
    """``value`` of the option ``name`` as its annotated type has it; raises `UserError` if it does not fit."""
    plain, within = _plain(hint)
    kinds = [plain]
    if typing.get_origin(plain) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(plain) if kind is not types.NoneType]
        if value is None:
            return None
        if _is_several(value):  # one, or one for each
            kinds = [kind for kind in kinds if typing.get_origin(_plain(kind)[0]) is tuple] or kinds
    (kind, inner) = _plain(kinds[0])
    if typing.get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in typing.get_args(kind):
            raise UserError(unknown_choice(name, brief(value).strip("'"), typing.get_args(kind)))
    elif typing.get_origin(kind) is tuple:
        several = value if _is_several(value) else (value,)
        value = tuple(_fitting(name, one, typing.get_args(kind)[0]) for one in several)
        if not value and name in ("hidden", "dense", "dropout"):
            raise UserError(f"--{name} is empty: give at least one {'share' if name == 'dropout' else 'width'}.")
    elif kind is bool:
        if type(value).__name__ not in ("bool", "bool_"):  # numpy's, too
            raise UserError(f"{_dashed(name)} {brief(value)} is neither True nor False.")
        value = bool(value)
    elif kind is str and not isinstance(value, str):
        raise UserError(f"{_dashed(name)} {brief(value)} is no text.")
    elif kind in (int, float):
        value = _number(name, value, kind)
        _check_range(name, value, within or inner)
    return value


def _is_several(value: Any) -> bool:
    """Whether it is a list of values and no text."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def _number(name: str, value: Any, kind: type[Any]) -> Any:
    """``value`` as Python's own number; text is none."""
    try:
        if isinstance(value, bool):  # a flag, surely, to a number's place
            raise TypeError
        return operator.index(value) if kind is int else float(operator.pos(value)) + 0.0  # no -0.0
    except (TypeError, ValueError):
        whole = "whole " if kind is int else ""
        raise UserError(f"{_dashed(name)} {brief(value)} is not a {whole}number.") from None
    except OverflowError:
        raise UserError(f"{_dashed(name)}: the number is too large.") from None


def _dashed(name: str) -> str:
    """As the command line writes it."""
    return f"--{name.replace('_', '-')}"


def brief(value: Any) -> str:
    """A value in a sentence: one line of some 60 characters, however long it is."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 60 else f"{line[:28]} ... {line[-28:]}"


def _check_range(name: str, value: float, within: Range | None) -> None:
    if within is None:
        return
    low: Any = within.ge if within.ge is not None else within.gt
    high: Any = within.le if within.le is not None else within.lt
    above = low is None or (value >= low if within.ge is not None else value > low)
    below = high is None or (value <= high if within.le is not None else value < high)
    if above and below:
        return
    if math.isinf(value) and above:
        raise UserError(f"{_dashed(name)} {value:g} is not a finite number.")
    if high is None or math.isinf(high):
        advice = f"{low:,} or more" if within.ge is not None else f"a number above {low:,}"
    elif within.le is not None:
        advice = f"{low:,} to {high:,}"
    else:
        advice = f"at least {low:,} and less than {high:,}"
    shown = f"{value:g}" if isinstance(value, float) else value
    raise UserError(f"{_dashed(name)} {shown} is out of range: take {advice}.")


def unknown_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """One sentence for a ``value`` of the option ``name`` that is none of ``choices``."""
    if name == "device" and value.lower() in ("gpu", "gpus", "nvidia"):  # nearest in letters would be cpu
        return f"unknown device {value!r}: an NVIDIA GPU is called cuda, an Apple one mps."
    return nearest(value, choices, name.replace("_", " "))
