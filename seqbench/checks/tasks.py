"""What a task must keep: the rules of honesty that can be seen in its data, and that every command can use it.

The data is loaded as the task has it by default, twice, with the network shut. Statistics that were fitted on more than
the training split are recognised where they leave a trace: features that are centred over all splits together and not
over training, and words of the vocabulary that never occur in training. What leaves none can't be seen here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seqbench.baselines import BASELINES
from seqbench.checks import Broken, NotChecked, register_check
from seqbench.checks.models import plain_model
from seqbench.config import RunConfig
from seqbench.data import Pairs, Ragged, Rows, Split, Stream, TaskData, Truth
from seqbench.device import settings
from seqbench.models.backbone import build, shape_of
from seqbench.models.heads import HEADS
from seqbench.prepare import Prepared, fit_baselines, load_or_build
from seqbench.report.text import counted, listed, rounded
from seqbench.task import BUDGETS, TASKS, Budget, Source, TaskSpec, parse_options
from seqbench.training import evaluate, fit, training_order

__all__ = ["Subject", "perfect_predictions"]

Array = npt.NDArray[Any]
FEW = 4096  # examples that a look at values takes from a split
MANY = 200_000  # examples, or steps of a series, that are compared between splits at most
STRETCH = 16  # steps of a series that may not stand in two splits
COMMON = 0.01  # share of sequences of tokens, which may be alike by chance, that may stand in two splits
TRACE = 2e-3  # how near to 0 and 1 the mean and the deviation of scaled features are
STEPS = 5  # of training


class Subject:
    """The task called ``name``, with ``given`` options; inside a ``with`` it has a folder for a cache."""

    def __init__(self, name: str, given: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.entry = TASKS.entry(name)
        self.options = parse_options(self.entry.value, given)
        self.spec: TaskSpec = self.entry.value.formed(self.options)

    def __enter__(self) -> Subject:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def load(self) -> TaskData:
        """Once more, without the network."""
        with _no_network():
            data = self.spec.load(Source(), self.options)
        if not isinstance(data, TaskData):
            raise Broken(f"load returns a {type(data).__name__}: return a seqbench.TaskData.")
        return data

    @functools.cached_property
    def data(self) -> TaskData:
        """Loaded once."""
        return self.load()

    @functools.cached_property
    def prepared(self) -> Prepared:
        """As every command reads it: through the cache."""
        folder = Path(self._folder.name) / self.spec.name
        options = dataclasses.asdict(self.options)
        return Prepared(self.spec, load_or_build(folder, lambda: self.data), options, "embedded", folder)

    @functools.cached_property
    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """Figures of every baseline, on validation and test."""
        return fit_baselines(self.prepared)


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Whoever connects hears that it is not allowed; processes of this machine may be talked to."""

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):
            raise Broken(f"load connects to {address}: let `fetch` download, and load read what is there.")

    def look_up(host: Any, *rest: Any, **more: Any) -> None:
        raise Broken(f"load looks up the host {host}: let `fetch` download, and load read what is there.")

    before = socket.socket.connect, socket.getaddrinfo
    setattr(socket.socket, "connect", refuse)  # noqa: B010 - a method of C, which types hold for fixed
    setattr(socket, "getaddrinfo", look_up)  # noqa: B010
    try:
        yield
    finally:
        setattr(socket.socket, "connect", before[0])  # noqa: B010
        setattr(socket, "getaddrinfo", before[1])  # noqa: B010


@register_check("task", "loading", "load(source, options) gives three splits, without the network", first=True)
def _loading(subject: Subject) -> str:
    if subject.spec.own:
        raise Broken("it has no data of its own, so there is nothing to check: register it without own=True.")
    for part, split in subject.data.splits.items():
        if not isinstance(split, Split):
            raise Broken(
                f"{part} is a {type(split).__name__}: make it one of Rows, Ragged, Pairs, Windows, Segments, Stream."
            )
        if not len(split):
            raise Broken(f"{part} has no example: every split needs some.")
    sizes = ", ".join(f"{part} {len(split):,}" for part, split in subject.data.splits.items())
    return f"{sizes} ({type(subject.data.train).__name__})"


@register_check("task", "description", "it says what it is, whose the data is, and how it is split and scored")
def _description(subject: Subject) -> str:
    spec = subject.spec
    empty = [name for name in ("description", "citation", "licence", "split") if not getattr(spec, name)]
    if empty:
        raise Broken(f"{listed(empty)} {'are' if len(empty) > 1 else 'is'} empty: say it in a sentence.")
    if spec.kind not in HEADS.names():
        raise Broken(f"its kind {spec.kind!r} has no head: take one of {listed(HEADS.names())}.")
    strange = [name for name in spec.baselines if BASELINES.get(name).kind != spec.kind]
    if strange:
        raise Broken(f"the baselines {listed(strange)} are not for {spec.kind}: name some that are.")
    params = getattr(spec.options, "__dataclass_params__", None)
    if params is None or not params.frozen:
        raise Broken(f"its options {spec.options.__name__} are no frozen dataclass: write @dataclass(frozen=True).")
    unset = [one.name for one in dataclasses.fields(spec.options) if one.default is dataclasses.MISSING]
    if unset:
        raise Broken(f"its options {listed(unset)} have no default: give them one.")
    steps = [spec.budgets[budget].steps for budget in BUDGETS]
    if spec.version < 1 or steps != sorted(steps):
        raise Broken(f"version {spec.version} and steps {steps}: versions start at 1, and budgets grow.")
    bad = [name for name, digest in subject.data.sources.items() if not re.fullmatch("[0-9a-f]{64}", digest)]
    if bad or not subject.data.sources:
        raise Broken(f"sources gives no SHA-256 of {listed(bad) or 'what was read'}: hashlib.sha256(...).hexdigest().")
    return f"{spec.kind}, {spec.licence}, {counted(len(subject.data.sources), 'source')}"


@register_check("task", "same data", "loading twice gives the same data")
def _same_data(subject: Subject) -> str:
    first, second = subject.data, subject.load()
    for part in first.splits:
        ours, theirs = _arrays(first.splits[part]), _arrays(second.splits[part])
        for name, array in ours.items():
            if name not in theirs or not np.array_equal(array, theirs[name], equal_nan=array.dtype.kind == "f"):
                raise Broken(
                    f"{name} of {part} differs between two loads: draw from np.random.default_rng(0), and never from "
                    "the global generator, the clock or the order of a set."
                )
    if dict(first.sources) != dict(second.sources):
        raise Broken("sources differ between two loads: hash what is read.")
    digest = hashlib.sha256(b"".join(array.tobytes() for array in _arrays(first.train).values())).hexdigest()
    return f"SHA-256 of the training split {digest[:12]}..."


def _arrays(split: Split) -> dict[str, Array]:
    """All arrays that a split holds, its groups and meta among them."""
    found: dict[str, Array] = {}
    for item in dataclasses.fields(split):
        value = getattr(split, item.name)
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        found.update({f"{item.name} {name}".strip(): np.asarray(one) for name, one in parts if one is not None})
    return found


@register_check("task", "values", "inputs and targets are finite, and as vocabulary, features and classes say")
def _values(subject: Subject) -> str:
    data, spec = subject.data, subject.spec
    for part, split in data.splits.items():
        truth = split.truth()
        batch = split[_some(len(split))]
        _expect_finite(part, batch.inputs, "inputs")
        _expect_finite(part, truth.targets, "targets")
        if batch.inputs.ndim == 2 and not data.vocabulary:
            raise Broken(f"inputs of {part} are (B, T) and there is no vocabulary: give one, or (B, T, D) features.")
        if data.vocabulary and not 0 <= batch.inputs.min() <= batch.inputs.max() < len(data.vocabulary):
            raise Broken(
                f"tokens of {part} lie from {batch.inputs.min()} to {batch.inputs.max()}, and the vocabulary has "
                f"{len(data.vocabulary)}: number them from 0."
            )
        if batch.inputs.ndim == 3 and batch.inputs.shape[2] != len(data.features):
            raise Broken(f"{part} has {batch.inputs.shape[2]} features, and {len(data.features)} are named.")
        if spec.kind in ("classify", "tag"):
            _expect_classes(part, truth, len(data.classes))
        if len(truth.groups) != len(truth) or any(len(rows) != len(truth) for rows in truth.meta.values()):
            raise Broken(f"groups or meta of {part} have not one row for each of {len(truth):,} examples.")
    width = f"{len(data.vocabulary)} tokens" if data.vocabulary else counted(len(data.features), "feature")
    return f"{width}, up to {data.train.sequence_length:,} steps"


def _some(count: int) -> npt.NDArray[np.int64]:
    """At most `FEW` indices, spread over all."""
    return np.arange(0, count, max(1, count // FEW))


def _expect_finite(part: str, values: Array, what: str) -> None:
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        raise Broken(f"{wrong:,} of {values.size:,} {what} of {part} are NaN or infinite: fill or drop them in load.")


def _expect_classes(part: str, truth: Truth, classes: int) -> None:
    present = set(np.unique(truth.targets).tolist())
    if not present <= set(range(classes)):
        raise Broken(
            f"targets of {part} are {sorted(present)[:9]}, and {classes} classes are named: number them from 0."
        )
    if missing := set(range(classes)) - present:
        raise Broken(f"classes {sorted(missing)[:9]} have no example in {part}: split so that each has some.")


@register_check("task", "groups", "no group stands in two splits, and the test has several")
def _groups(subject: Subject) -> str:
    if isinstance(subject.data.test, Stream):
        raise NotChecked("a text is split by place.")
    groups = {part: set(np.asarray(split.truth().groups).tolist()) for part, split in subject.data.splits.items()}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        both = groups[first] & groups[second]
        if both:
            raise Broken(
                f"{counted(len(both), 'group')} of {len(groups[second]):,} in {second} also in {first} "
                f"({sorted(both)[0]}, say): split between groups, and number them over all splits together."
            )
    if len(groups["test"]) < 2:
        raise Broken("the test is one group, of which no interval can be told: say in groups what is independent.")
    return ", ".join(f"{part} {len(of_part):,}" for part, of_part in groups.items())


@register_check("task", "no overlap", "no input, and no stretch of a series, stands in training and in another split")
def _no_overlap(subject: Subject) -> str:
    data = subject.data
    pieces = _stretches if _series(data.train) is not None else _examples
    known = set(pieces(data.train))
    what = f"stretches of {_stretch(data.train)} steps" if pieces is _stretches else "inputs"
    longest = max(len(split if (series := _series(split)) is None else series) for split in data.splits.values())
    part_of = f" (of the first {MANY:,} of each split)" if longest > MANY else ""
    told = []
    for part in ("val", "test"):
        own = list(pieces(data.splits[part]))
        both = sum(piece in known for piece in own)
        told.append(f"{both:,} of {len(own):,} {what} of {part}")
        if both > (COMMON * len(own) if data.vocabulary else 0):
            raise Broken(f"{told[-1]} stand in training, too: drop what is double before you split, and split by time.")
    return f"{listed(told)} stand in training{part_of}"


def _series(split: Split) -> Array | None:
    """What a split's windows are cut from; None where examples stand by themselves."""
    series = getattr(split, "tokens", None) if isinstance(split, Stream) else getattr(split, "series", None)
    return None if series is None else np.asarray(series)


def _stretch(split: Split) -> int:
    """Steps of a series that are compared: of a text a whole window, since phrases come again."""
    return split.sequence_length if isinstance(split, Stream) else min(STRETCH, split.sequence_length)


def _stretches(split: Split) -> Iterator[bytes]:
    """All stretches of a series but those that hold one value only."""
    series, length = _series(split), _stretch(split)
    assert series is not None
    series = np.ascontiguousarray(series[:MANY])
    changes = np.cumsum([0, *(series[1:] != series[:-1]).reshape(len(series) - 1, -1).any(axis=1)])
    for start in range(len(series) - length + 1):
        if changes[start + length - 1] > changes[start]:
            yield hashlib.blake2b(series[start : start + length].tobytes(), digest_size=8).digest()


def _examples(split: Split) -> Iterator[bytes]:
    """The real steps of every input."""
    for first in range(0, min(len(split), MANY), FEW):
        batch = split[np.arange(first, min(len(split), first + FEW))]
        lengths = np.full(len(batch.inputs), batch.inputs.shape[1]) if batch.lengths is None else batch.lengths
        for row, length in zip(batch.inputs, lengths, strict=True):
            yield hashlib.blake2b(np.ascontiguousarray(row[:length]).tobytes(), digest_size=8).digest()


@register_check("task", "training only", "scales and vocabulary come from training alone, as far as they leave a trace")
def _training_only(subject: Subject) -> str:
    data = subject.data
    return _known_words(data) if data.vocabulary else _known_scale(data)


def _known_words(data: TaskData) -> str:
    used = {part: {int(token) for token in np.unique(_values_of(split))} for part, split in data.splits.items()}
    late = (used["val"] | used["test"]) - used["train"] - {0}
    if len(late) > COMMON * len(data.vocabulary):
        names = listed([repr(data.vocabulary[token]) for token in sorted(late)[:3]])
        raise Broken(
            f"{len(late):,} of {len(data.vocabulary):,} tokens of the vocabulary, such as {names}, occur in validation "
            "or test and never in training: take the vocabulary from training, and one token for all unknown ones."
        )
    return f"{len(late):,} of {len(data.vocabulary):,} tokens never occur in training"


def _known_scale(data: TaskData) -> str:
    """By the traces of standard scores and of a range from 0 to 1."""
    parts = [_values_of(split).reshape(-1, len(data.features)).astype(np.float64) for split in data.splits.values()]
    for name, of in (("mean 0 and deviation 1", _is_standard), ("the range from 0 to 1", _is_unit)):
        alone, together = of(parts[0]), of(np.concatenate(parts))
        if together and not alone:
            mean, spread = np.abs(parts[0].mean(axis=0)).max(), parts[0].std(axis=0)
            raise Broken(
                f"the features have {name} over all splits together and not over training (there means go up to "
                f"{rounded(float(mean))}, deviations from {rounded(float(spread.min()))} to "
                f"{rounded(float(spread.max()))}): fit the scale on training alone."
            )
        if alone:
            return f"training has {name}"
    raise NotChecked("no scaling that was fitted can be recognised in the features.")


def _values_of(split: Split) -> Array:
    """All inputs: of a series once, and of rows their real steps."""
    series = _series(split)
    if series is not None:
        return series
    if isinstance(split, Ragged | Pairs):  # of both languages
        return np.asarray(split.tokens)
    if not isinstance(split, Rows):
        return np.asarray(split[_some(len(split))].inputs)
    if split.row_lengths is None:
        return np.asarray(split.inputs)
    return np.asarray(split.inputs)[np.arange(split.inputs.shape[1]) < split.row_lengths[:, None]]


def _is_standard(values: Array) -> bool:
    """Whether most features that vary have mean 0 and deviation 1."""
    spread = values.std(axis=0)
    fits = (np.abs(values.mean(axis=0)) < TRACE) & (np.abs(spread - 1) < TRACE)
    return bool(fits[spread > 0].mean() > 0.5) if (spread > 0).any() else False


def _is_unit(values: Array) -> bool:
    """Whether every feature goes from 0 to 1 exactly, with more than the two values."""
    low, high = values.min(axis=0), values.max(axis=0)
    between = ((values > 0) & (values < 1)).any(axis=0)
    return bool((between & (low == 0) & (high == 1)).sum() > 0.5 * max(1, between.sum()))


@register_check("task", "batches", "the same indices give the same batch, and the same seed the same order")
def _batches(subject: Subject) -> str:
    split = subject.data.train
    indices = np.arange(min(16, len(split)))
    before = {name: array.copy() for name, array in _arrays(split).items()}
    first, second = split[indices], split[indices]
    for name, one, other in zip(first._fields, first, second, strict=True):
        if one is not None and not np.array_equal(one, other):
            raise Broken(f"{name} of the same batch differ between two reads: gather must not change or draw anything.")
    if changed := [name for name, array in _arrays(split).items() if not np.array_equal(array, before[name])]:
        raise Broken(f"reading a batch changes {listed(changed)}: copy before you write.")
    one, other = (next(training_order(split, 16, np.random.default_rng(0))) for _ in range(2))
    if not np.array_equal(one, other):
        raise Broken("two orders with the same seed differ: lengths must not change.")
    fields = zip(first._fields, first, strict=True)
    return ", ".join(f"{name} {np.shape(one)}" for name, one in fields if one is not None)


def perfect_predictions(spec: TaskSpec, data: TaskData, truth: Truth) -> Array:
    """What a model that makes no error predicts of ``truth``, for the kinds of task that seqbench has.

    Raises:
        NotChecked: another kind.
    """
    if spec.kind in ("classify", "tag"):
        rows: Array = np.eye(len(data.classes))[truth.targets]
        return rows
    if spec.kind in ("forecast", "regress", "translate"):
        return truth.targets
    if spec.kind == "generate":
        return np.zeros(len(truth))
    raise NotChecked(f"what is perfect for the kind {spec.kind} is not known.")


@register_check("task", "score", "score gives every metric, the perfect value for the truth, and drops nothing")
def _score(subject: Subject) -> str:
    spec, test = subject.spec, subject.data.test
    truth = test.truth()
    best = perfect_predictions(spec, subject.data, truth)
    truth = truth.with_constants(spec.calibrated(best, truth))
    figures = spec.score(best, truth)
    names = {metric.name for metric in spec.metrics}
    if set(figures) != names:
        raise Broken(f"score gives {sorted(figures)}, and the metrics are {sorted(names)}: let both name the same.")
    value = figures[spec.primary.name]
    if not abs(value - spec.perfect) <= 1e-6:
        raise Broken(
            f"{spec.primary.name} of perfect predictions is {rounded(value)}, and perfect says {rounded(spec.perfect)}"
            ": correct one of them."
        )
    count = truth.targets.sum() if isinstance(test, Stream) else len(truth)
    if test.n_scored != count:
        raise Broken(f"{count:,} predictions are scored of {test.n_scored:,}: leave none out.")
    _expect_no_order(spec, best, truth)
    return f"{spec.primary.name} {rounded(value)} for the truth"


def _expect_no_order(spec: TaskSpec, best: Array, truth: Truth) -> None:
    """Scores of the examples in another order are the same."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(truth))
    # texts of other examples where the truth is a text, else any numbers
    predictions = best[rng.permutation(len(truth))] if best.dtype == np.uint8 else rng.random(best.shape)
    before, after = spec.score(predictions, truth), spec.score(predictions[order], truth[order])
    for name, value in before.items():
        if not np.isclose(value, after[name], rtol=1e-6, atol=1e-9, equal_nan=True):
            raise Broken(f"{name} depends on the order of the examples ({rounded(value)}, {rounded(after[name])}).")


@register_check("task", "cache", "the data comes out of the cache as it went in")
def _cache(subject: Subject) -> str:
    kept = subject.prepared.data
    for part, split in subject.data.splits.items():
        theirs = _arrays(kept.splits[part])
        for name, array in _arrays(split).items():
            if name not in theirs or not np.array_equal(array, theirs[name]):
                raise Broken(f"{name} of {part} is not in the cache as load made it: numbers in plain arrays are kept.")
    return "all arrays alike"


@register_check("task", "baselines", "every baseline has a figure, and the reference leaves room for skill")
def _baselines(subject: Subject) -> str:
    spec, scores = subject.spec, subject.baselines
    values = {name: parts["test"][spec.primary.name] for name, parts in scores.items()}
    strange = [name for name, value in values.items() if not np.isfinite(value)]
    if strange:
        raise Broken(f"{spec.primary.name} of {listed(strange)} is not finite: look at score and at the test split.")
    if not set(spec.references) & set(values):
        raise Broken(f"the reference {listed(spec.references)} can't be fitted to this data: name another one.")
    reference = spec.reference_of(scores)
    if values[reference] == spec.perfect:
        raise Broken(f"the reference {reference} is perfect already, so no skill can be told: name a simpler one.")
    chance = ", ".join(f"{name} {rounded(value)}" for name, value in values.items())
    return f"{spec.primary.name}: {chance}; skill is told from {reference}"


@register_check("task", "training", "a small model trains on it for some steps, and has finite figures")
def _training(subject: Subject) -> str:
    spec, data = subject.spec, subject.data
    name = plain_model()
    config = RunConfig(task=spec.name, model=name, weight_decay=0.0, dropout=0.0, learning_rate=1e-3)
    with settings(torch.device("cpu"), config):
        model = build(name, spec.kind, shape_of(spec.kind, data), (8,))
        fit(model, spec, data, config, Budget(STEPS, 16, 1))
        figures = evaluate(model, spec, data.test, config)
    strange = [metric for metric, value in figures.items() if not np.isfinite(value)]
    if spec.primary.name in strange:
        raise Broken(f"{spec.primary.name} of {name} after {STEPS} steps is not finite.")
    return f"{spec.primary.name} {rounded(figures[spec.primary.name])} with {name} after {STEPS} steps"
