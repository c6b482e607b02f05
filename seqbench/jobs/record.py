"""What every stored record has in common: how it is written, read, validated, and keyed by its content. No torch."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from seqbench.errors import UserError

__all__ = [
    "Cost",
    "DONE",
    "Environment",
    "FINE",
    "Hash",
    "Kept",
    "ModelInfo",
    "Name",
    "Primary",
    "Record",
    "SCHEMA_VERSION",
    "Status",
    "Strict",
    "TaskInfo",
    "cell_key",
    "hash_of",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Status = Literal["ok", "diverged", "oom", "timeout", "error", "not_applicable"]

DONE = ("ok", "not_applicable", "diverged")  # what would come out the same again; other failures are tried again
FINE = ("ok", "not_applicable")


class Strict(BaseModel):
    """Unknown keys, NaN and infinity are refused; nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Environment(Strict):
    """Where it ran. `git_commit` is of seqbench's own checkout, where there is one."""

    device: str
    device_name: str
    threads: int
    python: str
    torch: str
    cuda: str | None
    seqbench: str
    git_commit: str | None
    git_dirty: bool | None


class Kept(Strict):
    """A record: one JSON object whose key is that of its content."""

    NEWEST: ClassVar[int]

    schema_version: int
    key: Hash
    status: Status
    reason: str | None

    @property
    def headline(self) -> str:
        """The result in a few words, or why there is none."""
        return self.reason or ""

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        raise TypeError(f"{type(self).__name__} must define content_key()")

    def to_json(self) -> str:
        """Indented JSON with a last newline; refuses NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "record") -> Self:
        """Parse and validate.

        Raises:
            UserError: not JSON, not a record, from a newer version, or its key is not that of its content.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name} is not valid JSON: {error}.") from None
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > cls.NEWEST:
            raise UserError(f"{name} has schema version {version}; this seqbench reads up to {cls.NEWEST}: update it.")
        try:
            record = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top level"
            raise UserError(f"{name} is not a valid record: {where}: {first['msg']}.") from None
        if record.key != record.content_key():
            raise UserError(f"{name} has been altered: its key is not that of its content.")
        return record


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


SCHEMA_VERSION = 1
Figures = dict[str, float]


class TaskInfo(Strict):
    """Which data, and how much of it."""

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


class ModelInfo(Strict):
    """Which model. `state_size`: floats carried from step to step at the task's length."""

    name: Name
    version: int
    code_sha256: Hash | None
    hidden: tuple[int, ...]
    layers: int
    params: int | None
    state_size: int | None
    causal: bool
    backbone: str


class Primary(Strict):
    """The figure that the model is ranked by, on the test split; skill is 0 at `reference` and 1 at `perfect`."""

    name: str
    value: float
    direction: Literal["higher", "lower"]
    unit: str
    reference: str | None = None  # a baseline
    perfect: float | None = None


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


class Record(Kept):
    """One cell's result. Cells that did not end well have a `reason` and no metrics."""

    NEWEST: ClassVar[int] = SCHEMA_VERSION

    schema_version: Literal[1]
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
    environment: Environment
    started: str
    finished: str

    @property
    def headline(self) -> str:
        """The primary figure, or why there is none."""
        return f"{self.primary.name} {self.primary.value:.4g}" if self.primary else super().headline

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        return cell_key(
            self.task.model_dump(include={"name", "version", "code_sha256", "options", "source", "data_sha256"}),
            self.model.model_dump(include={"name", "version", "code_sha256"}),
            self.config,
            self.environment.device,
        )


def cell_key(task: dict[str, Any], model: dict[str, Any], config: dict[str, Any], device: str) -> str:
    """SHA-256 of the canonical JSON of everything that decides a cell's result.

    ``config`` is resolved and holds seed, budget, steps, batch size, precision and threads.
    """
    return hash_of({"task": task, "model": model, "config": config, "device": device})
