"""What a task is: its description (`TaskSpec`), its options, budgets and metrics, and the registry of tasks.

A task module registers a loader::

    @register_task("dna", version=1, kind="classify", ..., score=score)
    def load(source: Source, options: Options) -> TaskData: ...

Tasks return numpy arrays and never import torch; batching, devices and training belong to the engine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt

from seqbench.config import FLAGS, RunConfig, is_given, parse_options_text
from seqbench.data import NewRows, Reading, TaskData, Truth
from seqbench.errors import UserError, nearest
from seqbench.registry import Registry
from seqbench.stats import leave_one_out

__all__ = [
    "ADDED_OPTION",
    "BUDGETS",
    "SAME",
    "TASKS",
    "Budget",
    "Metric",
    "NoOptions",
    "Recipe",
    "Source",
    "TaskSpec",
    "Training",
    "changed_of",
    "check_recipe",
    "filled",
    "parse_options",
    "recipe_of",
    "recipes",
    "register_task",
]

TASKS: Registry[TaskSpec] = Registry("task", "seqbench.tasks", "seqbench.files", group="seqbench.tasks")
ADDED_OPTION = {"added": True}  # metadata of a task's option that came after records were published: see `prepare`
BUDGETS = ("smoke", "quick", "standard", "full")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A figure that `score` returns; the first of a task's metrics is its primary one.

    A ``headline`` metric is shown with an interval beside the primary one's. A ``share`` lies between 0 and 1, and so
    does its interval. A score that can't be told from a split is NaN there.
    """

    name: str
    direction: Literal["higher", "lower"]
    unit: str
    headline: bool = False
    share: bool = False

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is better than ``b``; NaN never is."""
        return a > b if self.direction == "higher" else a < b


@dataclass(frozen=True)
class Budget:
    """How much training one run may use, the same for every model.

    Attributes:
        steps: optimiser steps (never seconds, so that a record can be reproduced).
        batch_size: sequences in a step.
        evaluations: how often the validation split is read, evenly spread over the steps.
        patience: evaluations without a better one after which training stops; None: never.
    """

    steps: int
    batch_size: int
    evaluations: int
    patience: int | None = None

    def in_batches_of(self, size: int) -> Budget:
        """The same number of sequences in batches of ``size``, to the nearest step: fewer steps of larger batches."""
        steps = max(1, round(self.steps * self.batch_size / size))
        return dataclasses.replace(self, steps=steps, batch_size=size)


@dataclass(frozen=True)
class Training:
    """How a task's models are trained where the user says nothing, the same for every model.

    Attributes:
        learning_rate: peak of AdamW's.
        weight_decay: AdamW's, decoupled.
        dropout: share of values dropped after each mixer layer.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.1


@dataclass(frozen=True)
class Recipe:
    """A configuration as documents describe it, as data: what ``--recipe`` fills in where the user says nothing.

    Attributes:
        about: the configuration in words.
        source: where it is described.
        settings: fields of `RunConfig`, the model among them; ``option`` holds the task's as ``name=value``.
        smoke: fields that the budget ``smoke`` takes in their place, where it would not be over within a minute.
        departures: where a run differs from the description, and why.
    """

    name: str
    about: str
    source: str
    settings: Mapping[str, Any]
    smoke: Mapping[str, Any] = field(default_factory=dict)
    departures: tuple[str, ...] = ()

    def at(self, budget: str) -> dict[str, Any]:
        """The settings at ``budget``."""
        return {**self.settings, **(self.smoke if budget == "smoke" else {})}

    @property
    def options(self) -> dict[str, str]:
        """The task's options by name, as texts."""
        return _plain_options(self.settings.get("option", ()))


def _plain_options(pairs: Sequence[str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in parse_options_text(tuple(pairs)).items()}


@dataclass(frozen=True)
class Source:
    """What one `load` reads from.

    Attributes:
        name: `embedded` (shipped or in a pinned package), `hub` (fetched before), `path` (the user's own file).
        files: name to path, for `hub` and `path`; the user's file is called ``file``, a test set beside it ``test``.
        hashes: name to SHA-256 of these files.
    """

    name: str = "embedded"
    files: Mapping[str, Path] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The user's file."""
        return self.files["file"]


@dataclass(frozen=True)
class NoOptions:
    """A task without options."""


Score = Callable[[Array, Truth], dict[str, float]]
Load = Callable[[Source, Any], TaskData]


class Download(Protocol):
    """A canonical set on the network."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides its content: names, revisions, dates."""

    def fetch(self, folder: Path, say: Callable[[str], None], *, force: bool = False) -> None:
        """Download into ``folder``, which appears whole or not at all; what is there is kept unless ``force``."""


@dataclass(frozen=True)
class TaskSpec:
    """A named, versioned problem on real data.

    Attributes:
        options: a frozen dataclass; its fields are the task's ``--option name=value``.
        budgets: steps and batch size of each of `BUDGETS`.
        baselines: names of the non-neural rows shown beside every model.
        reference: the baseline that has skill 0; of several the one that does best on validation (`reference_of`).
        perfect: the primary metric's value that has skill 1.
        load: ``load(source, options) -> TaskData``, with a `Source`.
        score: ``score(predictions, truth) -> {metric name: value}`` in natural units.
        training: learning rate, weight decay and dropout where the user gives none.
        split: one sentence on how train, validation and test are told apart.
        calibrate: ``calibrate(predictions, truth)`` of the validation split gives figures (a threshold) that `score`
            then finds in ``truth.meta``, for validation and test alike.
        encode: ``encode(source, options, reading) -> NewRows``: a user's file as a trained model reads it; None where
            a task has nothing of the kind.
        fetch: ``fetch(options)`` gives the `Download` of a source on the network.
        variants: for the sources `hub` and `path`, the fields that differ there.
        forms: of options that change what is measured, not its data alone: the fields that differ, by the option's name
            and by its value.
        recipes: configurations for this task that documents describe.
        own: whether there is no data but the user's own: a kind of task for files, not a task by itself.
    """

    name: str
    version: int
    kind: str
    description: str
    citation: str
    licence: str
    split: str
    metrics: tuple[Metric, ...]
    budgets: Mapping[str, Budget]
    baselines: tuple[str, ...]
    reference: str | tuple[str, ...]
    perfect: float
    load: Load
    score: Score
    options: type[Any] = NoOptions
    training: Training = Training()
    calibrate: Callable[[Array, Truth], dict[str, float]] | None = None
    encode: Callable[[Source, Any, Reading], NewRows] | None = None
    fetch: Callable[[Any], Download] | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forms: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    recipes: tuple[Recipe, ...] = ()
    own: bool = False
    module: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Where its data can come from."""
        return ("path",) if self.own else ("embedded", *self.variants)

    def at(self, source: str) -> TaskSpec:
        """The task as it is with data from ``source``; raises `UserError` where there is none."""
        if source not in self.sources:
            if self.own:
                raise UserError(f"task {self.name} is for a file of your own: give it with --data FILE.")
            raise UserError(f"task {self.name} has no source {source!r}: take {' or '.join(self.sources)}.")
        return dataclasses.replace(self, **self.variants.get(source, {}))

    def formed(self, options: Any) -> TaskSpec:
        """The task as it is with ``options``, an instance of its own or names and values, as a record has them."""
        known = options if isinstance(options, Mapping) else dataclasses.asdict(options)
        changes = [values.get(str(known.get(name)), {}) for name, values in self.forms.items()]
        return dataclasses.replace(self, **{name: value for change in changes for name, value in change.items()})

    @property
    def primary(self) -> Metric:
        """The metric that models are selected and ranked by."""
        return self.metrics[0]

    def calibrated(self, predictions: Array, truth: Truth) -> dict[str, float]:
        """What the validation split's predictions fix for the scores of the test."""
        return self.calibrate(predictions, truth) if self.calibrate else {}

    def leave_one_out(self, predictions: Array, truth: Truth) -> Array:
        """(G,) the primary metric without each group of ``truth`` in turn, as `stats.leave_one_out` gives it."""
        return leave_one_out(lambda kept: self.score(predictions[kept], truth[kept])[self.primary.name], truth.groups)

    @property
    def references(self) -> tuple[str, ...]:
        """The baselines one of which has skill 0."""
        return (self.reference,) if isinstance(self.reference, str) else tuple(self.reference)

    def reference_of(self, scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
        """The baseline that has skill 0, by the ``scores`` of baselines as `prepare.fit_baselines` gives them.

        Of several it is the best on validation (of equals the first), so that no naive row beats what skill is told by.
        """
        name, sign = self.primary.name, 1.0 if self.primary.direction == "lower" else -1.0
        fitted = [reference for reference in self.references if reference in scores]
        return min(fitted or self.references, key=lambda one: sign * scores[one]["val"][name] if scores else 0.0)

    def skill(self, value: float, reference: float) -> float:
        """0 at the reference baseline's value, 1 at the perfect one; may be negative. NaN where the two are the same:
        over a reference without an error no skill can be told."""
        span = self.perfect - reference
        return (value - reference) / span if span else math.nan


def register_task(name: str, **about: Any) -> Callable[[Load], Load]:
    """Register the decorated loader as task ``name``; ``about`` holds the other fields of `TaskSpec`."""

    def decorate(load: Load) -> Load:
        spec = TaskSpec(name=name, load=load, module=load.__module__, **about)
        missing = [budget for budget in BUDGETS if budget not in spec.budgets]
        places = [spec.at(source) for source in spec.sources]
        places += [
            place.formed({option: value}) for place in places for option in place.forms for value in place.forms[option]
        ]
        if missing or not all(place.references and set(place.references) <= set(place.baselines) for place in places):
            raise UserError(f"task {name!r} lacks budgets {missing} or its reference is not among its baselines.")
        TASKS.add(name, spec, module=load.__module__, listed=not spec.own)
        return load

    return decorate


def recipes() -> dict[str, tuple[Recipe, TaskSpec]]:
    """Every recipe by name, with the task that it was described for."""
    specs = [entry.value for entry in TASKS.entries()]
    return {recipe.name: (recipe, spec) for spec in specs for recipe in spec.recipes}


def recipe_of(name: str) -> tuple[Recipe, TaskSpec]:
    """The recipe ``name`` and the task that it was described for; raises `UserError` if there is none."""
    known = recipes()
    if name not in known:
        raise UserError(nearest(name, known, "recipe"))
    return known[name]


def check_recipe(name: str | None, spec: TaskSpec) -> None:
    """Raise `UserError` unless the recipe ``name``, if there is one, can be used for ``spec``.

    The task must be of the kind that the recipe was described for, and have the options that it sets.
    """
    if name is None:
        return
    recipe, home = recipe_of(name)
    options = {item.name for item in dataclasses.fields(spec.options)}
    if spec.kind != home.kind or not set(recipe.options) <= options:
        raise UserError(
            f"--recipe {name} was described for task {home.name} and can't be used for {spec.name}: leave it out, or "
            f"give --task {home.name}."
        )


def filled(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given``, fields of `RunConfig`, and of the recipe ``name`` what is not given; raises `UserError` if unknown.

    The recipe's options of the task are added to those that are given. A number of parameters stands for the widths.
    """
    recipe, _ = recipe_of(name)
    settings = recipe.at(given.get("budget", "quick"))
    if given.get("params") is not None:
        settings.pop("hidden", None)
    pairs = tuple(given.get("option", ()))
    named = {*_plain_options(pairs), *(flag for flag in FLAGS if is_given(given.get(flag)))}
    more = tuple(f"{option}={value}" for option, value in recipe.options.items() if option not in named)
    return {**settings, **given, "recipe": name, "option": (*pairs, *more)}


def changed_of(config: RunConfig) -> tuple[str, ...]:
    """Which settings of the recipe that ``config`` names it has otherwise."""
    if config.recipe is None:
        return ()
    recipe, _ = recipe_of(config.recipe)
    settings = recipe.at(config.budget)
    settings.pop("option", None)
    given = {name.replace("-", "_"): str(value).lower() for name, value in config.task_options.items()}
    changed = [name for name, value in settings.items() if getattr(config, name) != value]
    return (*changed, *(f"option {name}" for name, value in recipe.options.items() if given.get(name) != value))


def parse_options(spec: TaskSpec, given: Mapping[str, str | int | float | bool]) -> Any:
    """The task's options dataclass with ``given`` values, each converted to the type of its field's default.

    Raises:
        UserError: an unknown option, or a value that is not of the field's type or that the dataclass refuses.
    """
    fields = {item.name: item for item in dataclasses.fields(spec.options)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in fields and SAME.get(name) in fields:
            name = SAME[name]
        if name not in fields:
            raise UserError(_no_option(spec, name, fields))
        if name in values:
            raise UserError(f"the task's option {name} is given twice: give it once.")
        default = fields[name].default
        try:
            values[name] = _convert(value, type(default))
        except ValueError:
            raise UserError(
                f"option {name}={value} of task {spec.name} must be of type {type(default).__name__}, like {default}."
            ) from None
    return spec.options(**values)


# the column that is predicted and the one that is read have one name each on the line, whatever a task calls them
SAME = {"target": "label", "features": "text", "label": "target", "text": "features"}


def _no_option(spec: TaskSpec, name: str, fields: Mapping[str, Any]) -> str:
    """One sentence for an option that the task has not: it may be one of a file of the user's."""
    of_file = spec.variants.get("path", {}).get("options", spec.options)
    if of_file is not spec.options and name in {item.name for item in dataclasses.fields(of_file)}:
        flag = f"--{name.replace('_', '-')}"
        return f"{flag} is for a file of your own, and task {spec.name} has its own data: give --data FILE, too."
    return nearest(name, fields, f"option of task {spec.name}")


def _convert(value: str | int | float | bool, kind: type[Any]) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(value)
        return value.lower() == "true"
    if kind is int and isinstance(value, float):
        raise ValueError(value)
    return kind(value)
