"""The record: the JSON object that one job leaves behind, schema version 4.

`Record` is what all have in common; `RunRecord` is that of a model trained on a task, which `seqbench.experiment` fills
in, `ProbeRecord` that of a probe, which `seqbench.probes.shared.measuring` fills in. A
record is validated whenever it is written or read: unknown keys, NaN, newer schema versions, and a key that is not that
of its content are refused. A score that can't be told is null.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from seqbench.errors import UserError
from seqbench.jobs import probe_place

__all__ = [
    "READING_SHA256",
    "SCHEMA_VERSION",
    "Cost",
    "DataInfo",
    "Environment",
    "MeasuredModel",
    "ModelInfo",
    "Primary",
    "ProbeInfo",
    "ProbeRecord",
    "ReadingFile",
    "Record",
    "RunRecord",
    "Status",
    "TaskInfo",
    "hash_of",
    "now",
    "probe_key",
    "run_key",
]

# 2: numpy, scikit_learn, os and instruction_set of the environment; 3: dataset, test_file and about of the task, null
# for scores that can't be told, and share of the primary figure; 4:
# kernel and flush_denormal of the environment
SCHEMA_VERSION = 4
READING_SHA256 = "reading_sha256"  # in the header of model.safetensors: of the model.json that belongs to it
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Figures = dict[str, float | None]  # None: it can't be told from this data
# pruned: tuning ended it early; it has a curve and a cost, and no figures
Status = Literal["ok", "diverged", "oom", "timeout", "error", "not_applicable", "pruned"]


class Strict(BaseModel):
    """Unknown keys, NaN and infinity are refused; nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Environment(Strict):
    """Where it ran. `git_commit` is of seqbench's own checkout, where there is one.

    What is None by default is not known of older records. `os` is the system and its release, without the
    name of the machine; `instruction_set` is what torch uses of the processor, such as AVX2, on which the last digits
    of figures depend. `kernel`: what ran the layers of built-in models in training and validation
    (`seqbench.models.kernels`), each that did; `flush_denormal`: whether numbers below the least normal one counted
    as 0.
    """

    device: str
    device_name: str
    threads: int
    python: str
    torch: str
    cuda: str | None
    seqbench: str
    git_commit: str | None
    git_dirty: bool | None
    numpy: str | None = None
    scikit_learn: str | None = None
    os: str | None = None
    instruction_set: str | None = None
    kernel: str | None = None
    flush_denormal: bool | None = None


class Record(Strict):
    """What every record holds. One that did not end well has a `reason`."""

    PATTERN: ClassVar[str]  # of the folders of such records below a store's root

    schema_version: Literal[1, 2, 3, 4]
    key: Hash
    status: Status
    reason: str | None
    environment: Environment
    started: str
    finished: str

    @property
    def headline(self) -> str:
        """The result in a few words, or why there is none."""
        return self.reason or ""

    @property
    def place(self) -> tuple[str, ...]:
        """The folders below a store's root under which it belongs."""
        raise TypeError(f"{type(self).__name__} must define place")

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        raise TypeError(f"{type(self).__name__} must define content_key()")

    def to_json(self) -> str:
        """Indented JSON with a last newline; refuses NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "record") -> Self:
        """Parse and validate a record of this class; `Record` itself reads one of any kind.

        Raises:
            UserError: not JSON, not a record, from a newer version, or its key is not that of its content.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name} is not valid JSON: {error}.") from None
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UserError(
                f"{name} has schema version {version}; this seqbench reads up to {SCHEMA_VERSION}: update it."
            )
        kind: Any = cls
        if cls is Record:
            kind = ProbeRecord if isinstance(raw, dict) and "probe" in raw else RunRecord
        try:
            record: Self = kind.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top level"
            raise UserError(f"{name} is not a valid record: {where}: {first['msg']}.") from None
        try:
            own = record.key == record.content_key()
        except ValueError as error:  # a number that is none, or half a letter
            raise UserError(f"{name} is not a valid record: {error}.") from None
        if not own:
            raise UserError(f"{name} has been altered: its key is not that of its content.")
        return record


class DataInfo(Strict):
    """What `data show` knows: how the data was read, split and cleaned, so that a figure can be judged without it.

    `features` are the columns that were read, `classes` the share of each class in each split.
    """

    notes: tuple[str, ...]
    features: tuple[str, ...]
    classes: dict[str, dict[Literal["train", "val", "test"], float]]
    groups: dict[Literal["train", "val", "test"], int]


class ReadingFile(Strict):
    """What a trained model must be read with, as model.json beside its weights holds it: a `seqbench.data.Reading`."""

    vocabulary: tuple[str, ...]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    fitted: dict[str, JsonValue]

    @classmethod
    def from_json(cls, content: bytes, name: str) -> Self:
        """Parse and validate it.

        Raises:
            UserError: not JSON, a field that is missing, of another type or not finite, or lengths that differ.
        """
        again = "train the model again with --force"
        try:
            kept = cls.model_validate(json.loads(content))
            kept._check_lengths()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top level"
            raise UserError(f"{name} is damaged: {where}: {first['msg']}; {again}.") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name} is damaged: {error}; {again}.") from None
        return kept

    def _check_lengths(self) -> None:
        """Raise ValueError unless figures of features and columns are numbers, one for each."""
        about = {name: self.fitted[name] for name in ("mean", "deviation", "flagged") if name in self.fitted}
        for name, values in about.items():
            if not isinstance(values, list) or not all(isinstance(value, (int, float)) for value in values):
                raise ValueError(f"fitted.{name} must be a list of numbers")
            if len(values) > len(self.features):
                raise ValueError(f"fitted.{name} has {len(values)} values for {len(self.features)} features")
        if len({len(values) for values in about.values() if isinstance(values, list)}) > 1:
            raise ValueError(f"fitted.{' and fitted.'.join(about)} must be of one length")
        for target in ("offset", "scale"):
            if not isinstance(self.fitted.get(target, 0.0), (int, float)):
                raise ValueError(f"fitted.{target} must be a number")


class TaskInfo(Strict):
    """Which data, and how much of it. `dataset` is what a user calls a set of their own; `about` lacks in old records.

    Neither decides the result, so neither is in the key. Nor is `test_file`, whether the test was a second file of the
    user's: `data_sha256` is of both then.
    """

    name: Name
    version: int
    code_sha256: Hash | None  # of a plug-in's file; None for what is installed
    kind: str
    options: dict[str, Any]
    source: str
    data_sha256: Hash
    n_train: int
    n_val: int
    n_test: int
    sequence_length: int
    dataset: str | None = None
    test_file: bool = False
    about: DataInfo | None = None


class ModelInfo(Strict):
    """Which model. `state_size`: floats carried from step to step at the task's length."""

    name: Name
    version: int
    code_sha256: Hash | None
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    layers: int
    params: int | None
    state_size: int | None
    causal: bool
    backbone: str


class Primary(Strict):
    """The figure that the model is ranked by, on the test split; skill is 0 at `reference` and 1 at `perfect`.

    `value` is None where it can't be told. `share`: it lies between 0 and 1; None in records from before it was kept.
    """

    name: str
    value: float | None
    direction: Literal["higher", "lower"]
    unit: str
    reference: str | None = None  # a baseline
    perfect: float | None = None
    share: bool | None = None


class Cost(Strict):
    """What it took. Seconds are wall-clock; rates are of training; FLOPs are of one forward pass over one sequence.

    `cpu_seconds` are what the process computed for in training, which other work on the machine lengthens far less.
    """

    train_seconds: float
    cpu_seconds: float | None = None
    steps: int
    samples_per_second: float
    tokens_per_second: float
    flops_per_sample: int | None
    peak_memory_bytes: int
    data_seconds: float
    eval_seconds: float
    interrupted: bool


class RunRecord(Record):
    """A model trained on a task. Runs that did not end well have no metrics."""

    PATTERN: ClassVar[str] = "*/*/*"

    task: TaskInfo
    model: ModelInfo
    config: dict[str, Any]
    seed: int = Field(ge=0)
    budget: str
    metrics: dict[Literal["val", "test"], Figures]
    primary: Primary | None
    baselines: Figures
    skill: float | None
    cost: Cost | None

    @property
    def headline(self) -> str:
        """The primary figure, or why there is none."""
        if self.primary is None:
            return super().headline
        value = self.primary.value
        return f"{self.primary.name} {'not known' if value is None else f'{value:.4g}'}"

    @property
    def place(self) -> tuple[str, ...]:
        """Task and model."""
        return self.task.name, self.model.name

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        return run_key(
            self.task.model_dump(include={"name", "version", "code_sha256", "options", "source", "data_sha256"}),
            self.model.model_dump(include={"name", "version", "code_sha256"}),
            self.config,
            self.environment.device,
        )


class ProbeInfo(Strict):
    """Which measurement."""

    name: Name
    version: int


class MeasuredModel(Strict):
    """Which model."""

    name: Name
    version: int
    code_sha256: Hash | None  # of a plug-in's file; None for what is installed


class ProbeRecord(Record):
    """One measurement of a probe: `case` is what was asked, `result` what came out, None unless the status is ok.

    The probe's own dataclass says what is in `result` (`seqbench.probes.Probe.Result`). `seconds` are wall-clock.
    """

    PATTERN: ClassVar[str] = "probes/*/*/*"

    probe: ProbeInfo
    models: tuple[MeasuredModel, ...]
    case: dict[str, JsonValue]
    result: dict[str, JsonValue] | None
    summary: str
    seconds: float

    @property
    def headline(self) -> str:
        """The probe's own summary, or why there is none."""
        return self.summary if self.result is not None else super().headline

    @property
    def place(self) -> tuple[str, ...]:
        """The probe, and the model if it is one."""
        return probe_place(self.probe.name, [model.name for model in self.models])

    @property
    def budget(self) -> str:
        """How thorough."""
        return str(self.case["budget"])

    @property
    def seed(self) -> int:
        """Of initialisation and data."""
        seed = self.case["seed"]
        assert isinstance(seed, int)
        return seed

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        return probe_key(self.probe.model_dump(), [model.model_dump() for model in self.models], self.case)


def run_key(task: dict[str, Any], model: dict[str, Any], config: dict[str, Any], device: str) -> str:
    """SHA-256 of everything that decides what a run of ``model`` on ``task`` gives.

    ``config`` is resolved and holds seed, budget, steps, batch size, precision and threads.
    """
    return hash_of({"task": task, "model": model, "config": config, "device": device})


def probe_key(probe: dict[str, Any], models: list[dict[str, Any]], case: dict[str, Any]) -> str:
    """SHA-256 of everything that decides what a probe gives: the probe, the models' code, and the case."""
    return hash_of({"probe": probe, "models": models, "case": case})


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """The time in UTC, to the second, as records hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
