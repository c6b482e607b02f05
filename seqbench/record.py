"""The record: the JSON object that one cell leaves behind, schema version 1. No torch.

It is validated whenever it is written or read: unknown keys, NaN and newer schema versions are refused. `Record.key`
names the cell by content, so that the same command finds its own result.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from seqbench.errors import UserError

__all__ = ["SCHEMA_VERSION", "Cost", "Environment", "ModelInfo", "Primary", "Record", "TaskInfo", "cell_key"]

SCHEMA_VERSION = 1
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Figures = dict[str, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class TaskInfo(_Strict):
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


class ModelInfo(_Strict):
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


class Primary(_Strict):
    """The figure that the model is ranked by, on the test split; skill is 0 at `reference` and 1 at `perfect`."""

    name: str
    value: float
    direction: Literal["higher", "lower"]
    unit: str
    reference: str | None = None  # a baseline
    perfect: float | None = None


class Cost(_Strict):
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


class Environment(_Strict):
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


class Record(_Strict):
    """One cell's result. Cells that did not end well have a `reason` and no metrics."""

    schema_version: Literal[1]
    key: Hash
    status: Literal["ok", "diverged", "oom", "timeout", "error", "not_applicable"]
    reason: str | None
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

    def to_json(self) -> str:
        """Indented JSON with a last newline; refuses NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "record") -> Record:
        """Parse and validate.

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
        try:
            record = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top level"
            raise UserError(f"{name} is not a valid record: {where}: {first['msg']}.") from None
        if record.key != record.content_key():
            raise UserError(f"{name} has been altered: its key is not that of its content.")
        return record

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
    content = {"task": task, "model": model, "config": config, "device": device}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
