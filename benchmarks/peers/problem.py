"""What every peer is given for a row: the same net, weights, data and settings, as files that need no torch to read.

`own` builds them as seqbench does; `write` lays them in a folder, and `read` is all that a peer's process calls.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.rows import Row

if TYPE_CHECKING:  # torch, which the processes of Keras do without
    from seqbench.config import RunConfig
    from seqbench.data import TaskData
    from seqbench.models.backbone import SequenceModel
    from seqbench.task import TaskSpec

__all__ = ["Own", "Problem", "own", "read", "write"]

Array = npt.NDArray[Any]
TRAINING = {"learning_rate": 2e-3, "weight_decay": 0.01, "dropout": 0.1}  # where there is no task to say


@dataclass(frozen=True)
class Problem:
    """A net and how it is trained.

    Attributes:
        model: rnn, lstm, gru, bilstm or transformer.
        kind: classify (reads sum / sqrt(T) and the last step), forecast (the last step) or generate (every step).
        tokens: size of the vocabulary of (N, T) inputs; 0 for (N, T, D) features.
        outputs: of the last linear layer.
        weights: seqbench's first weights, by their names in its model.
        inputs, targets: all examples of training, small integers as they are stored.
    """

    model: str
    kind: str
    widths: tuple[int, ...]
    embeds: bool
    tokens: int
    features: int
    outputs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    clip: float
    threads: int
    weights: dict[str, Array]
    inputs: Array
    targets: Array

    @property
    def causal(self) -> bool:
        """Whether no step may see a later one."""
        return self.kind == "generate"

    @property
    def first_batch(self) -> tuple[Array, Array]:
        """The examples on which the first loss of all peers is compared."""
        return self.inputs[: self.batch_size], self.targets[: self.batch_size]


@dataclass(frozen=True)
class Own:
    """A row as seqbench has it."""

    model: SequenceModel
    spec: TaskSpec
    data: TaskData
    config: RunConfig
    batch_size: int


def own(row: Row, threads: int, kernel: str | None = None) -> Own:
    """Build ``row`` by seqbench's own functions; the weights are drawn from torch's generator."""
    return _of_task(row, threads, kernel) if row.task else _of_features(row, threads, kernel)


def _with_kernel(function: Any, kernel: str | None) -> dict[str, str]:
    """``kernel`` as an argument, where this version of seqbench knows the choice."""
    if kernel is None:
        return {}
    if "kernel" not in inspect.signature(function).parameters:
        raise RuntimeError("this version of seqbench has no choice of kernels")
    return {"kernel": kernel}


def _of_task(row: Row, threads: int, kernel: str | None) -> Own:
    from seqbench.config import RunConfig
    from seqbench.experiment import build_model, resolve

    assert row.task
    settings = {"threads": threads, "hidden": row.widths, "device": "cpu", **_with_kernel(RunConfig, kernel)}
    planned = resolve(RunConfig(task=row.task, model=row.model, **settings))
    return Own(build_model(planned), planned.prepared.spec, planned.data, planned.config, planned.budget.batch_size)


def _of_features(row: Row, threads: int, kernel: str | None) -> Own:
    from torch import nn

    from seqbench.config import RunConfig
    from seqbench.data import Rows, TaskData
    from seqbench.models.backbone import build, shape_of
    from seqbench.task import TASKS

    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((row.examples, row.length, row.features), dtype=np.float32)
    targets = generator.standard_normal((row.examples, 1, 1), dtype=np.float32)
    split = Rows(inputs, targets, np.arange(row.examples))
    data = TaskData(split, split, split, {}, features=tuple(f"x{i}" for i in range(row.features)))
    spec = TASKS.get("weather")  # only its metric is asked for, and only after the last step
    more = _with_kernel(RunConfig, kernel)
    config = RunConfig(task="weather", model=row.model, threads=threads, device="cpu", **TRAINING, **more)
    more = more if "kernel" in inspect.signature(build).parameters else {}
    model = build(row.model, "forecast", shape_of("forecast", data), row.widths, TRAINING["dropout"], **more)
    if not row.embeds:
        first = model.layers[0]
        model.embed = nn.Identity()
        model.layers[0] = type(first)(row.features, row.widths[0], causal=False)
        model.use_kernel(kernel or "auto")
    return Own(model, spec, data, config, row.batch)


def write(row: Row, threads: int, folder: Path) -> None:
    """Lay everything about ``row`` into ``folder``."""
    import torch

    torch.manual_seed(0)
    made = own(row, threads)
    shape, config = made.model.shape, made.config
    batch = made.data.train[np.arange(len(made.data.train))]
    assert batch.lengths is None
    problem = {
        "model": row.model,
        "kind": made.spec.kind,
        "widths": row.widths,
        "embeds": row.embeds,
        "tokens": shape.tokens,
        "features": shape.features,
        "outputs": int(np.prod(shape.outputs)),
        "batch_size": made.batch_size,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "dropout": config.dropout,
        "clip": config.clip,
        "threads": threads,
    }
    weights = {name: tensor.numpy() for name, tensor in made.model.state_dict().items()}
    np.savez(folder / "weights.npz", **weights)
    np.save(folder / "inputs.npy", batch.inputs)
    np.save(folder / "targets.npy", batch.targets)
    (folder / "problem.json").write_text(json.dumps({"problem": problem, "row": dataclasses.asdict(row)}))


def read(folder: Path) -> tuple[Row, Problem]:
    """What `write` left."""
    kept = json.loads((folder / "problem.json").read_text())
    row = Row(**{**kept["row"], "widths": tuple(kept["row"]["widths"])})
    with np.load(folder / "weights.npz") as arrays:
        weights = dict(arrays)
    inputs, targets = np.load(folder / "inputs.npy"), np.load(folder / "targets.npy")
    return row, Problem(**kept["problem"], weights=weights, inputs=inputs, targets=targets)
