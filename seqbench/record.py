"""The record: the JSON object that one cell leaves behind, schema version 1. No torch.

It is validated whenever it is written or read: unknown keys, NaN and newer schema versions are refused. `Record.key`
names the cell by content, so that the same command finds its own result.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from seqbench.kept import Environment, Hash, Kept, Name, Strict, hash_of

__all__ = ["SCHEMA_VERSION", "Cost", "Environment", "ModelInfo", "Primary", "Record", "TaskInfo", "cell_key"]

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
