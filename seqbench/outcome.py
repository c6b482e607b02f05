"""What a cell leaves: the record, and the curve, predictions and weights beside it."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors

from seqbench.data.splits import Split
from seqbench.device import device_name
from seqbench.environment import seqbench_version
from seqbench.models.backbone import SequenceModel, count_parameters
from seqbench.models.sizing import flops_per_sample
from seqbench.plan import Plan
from seqbench.prepare import baselines_left_out, fit_baselines
from seqbench.record import SCHEMA_VERSION, Cost, Environment, ModelInfo, Primary, Record, TaskInfo
from seqbench.registry import MODELS, TASKS
from seqbench.store import LEFT_OUT
from seqbench.train import Fit, predict

__all__ = ["Writer", "now"]


class Writer:
    """Turns what happened into a record and the files beside it."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan, self.say, self.started = plan, say, now()

    @cached_property
    def baselines(self) -> dict[str, float]:
        """Primary test figures; fitted, if need be, after training, so that they don't weigh on its peak memory."""
        scores = fit_baselines(self.plan.prepared, self.say)
        return {name: parts["test"][self.plan.prepared.spec.primary.name] for name, parts in scores.items()}

    def finish(self, model: SequenceModel, done: Fit, folder: Path) -> Record:
        """Read validation and test with the best state, and write curve, predictions and weights into ``folder``."""
        spec, data, config = self.plan.prepared.spec, self.plan.prepared.data, self.plan.config
        constants: dict[str, float] = {}
        metrics, begun = {}, time.perf_counter()
        for part in ("val", "test"):
            split: Split = data.splits[part]
            predictions, truth = predict(model, split, config), split.truth()
            constants = constants if part == "test" else spec.calibrated(predictions, truth)
            truth = truth.with_constants(constants)
            metrics[part] = {**spec.score(predictions, truth), "n_scored": float(split.n_scored)}
        done.eval_seconds += time.perf_counter() - begun
        made = type(model.head).sample(model.eval(), data, np.random.default_rng([config.seed, 2]))
        if made is not None:
            metrics["test"] |= made.metrics
            (folder / "sample.txt").write_text(made.text, encoding="utf-8")
        meta: dict[str, Any] = {f"meta_{name}": rows for name, rows in truth.meta.items()}
        with (folder / "predictions.npz").open("wb") as file:
            np.savez_compressed(file, prediction=_small(predictions), target=truth.targets, group=truth.groups, **meta)
        rows: list[Any] = [spec.leave_one_out(predictions, truth), *baselines_left_out(self.plan.prepared, self.say)]
        np.save(folder / LEFT_OUT, np.stack(rows), allow_pickle=False)
        lines = (json.dumps(point, allow_nan=False) + "\n" for point in done.curve)
        (folder / "curve.jsonl").write_text("".join(lines), encoding="utf-8")
        weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        # not save_file: its error for a full disk is no OSError and would pass for the model's
        (folder / "model.safetensors").write_bytes(to_safetensors(weights))
        reading = json.dumps(dataclasses.asdict(data.reading), ensure_ascii=False, allow_nan=False)
        (folder / "model.json").write_text(reading, encoding="utf-8")
        return self.record("ok", None, model, metrics, self._cost(model, done))

    def _cost(self, model: SequenceModel, done: Fit) -> Cost:
        data = self.plan.prepared.data
        seconds = max(done.train_seconds, 1e-9)
        return Cost(
            train_seconds=done.train_seconds,
            cpu_seconds=done.cpu_seconds,
            steps=done.steps,
            samples_per_second=done.samples / seconds,
            tokens_per_second=done.tokens / seconds,
            flops_per_sample=flops_per_sample(model, data, data.train.sequence_length),
            peak_memory_bytes=done.peak_memory,
            data_seconds=self.plan.data_seconds,
            eval_seconds=done.eval_seconds,
            interrupted=done.resumed,
        )

    def record(
        self,
        status: Any,
        reason: str | None,
        model: SequenceModel | None = None,
        metrics: Any = None,
        cost: Cost | None = None,
    ) -> Record:
        """The record of this cell with whatever is known."""
        plan = self.plan
        spec, data, config = plan.prepared.spec, plan.prepared.data, plan.config
        primary = skill = None
        if metrics:
            value = metrics["test"][spec.primary.name]
            about = spec.primary
            primary = Primary(
                name=about.name,
                value=value,
                direction=about.direction,
                unit=about.unit,
                reference=spec.reference,
                perfect=spec.perfect,
            )
            skill = spec.skill(value, self.baselines[spec.reference])
        length = data.train.sequence_length
        return Record(
            schema_version=SCHEMA_VERSION,
            key=plan.key,
            status=status,
            reason=reason,
            task=self._task(),
            model=ModelInfo(
                name=plan.model.name,
                version=plan.model.version,
                code_sha256=MODELS.entry(plan.model.name).code,
                hidden=model.widths if model else config.widths,
                layers=config.n_layers,
                params=count_parameters(model) if model else None,
                state_size=model.state_size(length) if model else None,
                causal=model.causal if model else False,
                backbone=config.backbone,
            ),
            config=plan.resolved,
            seed=config.seed,
            budget=config.budget,
            metrics=metrics or {},
            primary=primary,
            baselines=self.baselines,
            skill=skill,
            cost=cost,
            environment=self._environment(),
            started=self.started,
            finished=now(),
        )

    def _task(self) -> TaskInfo:
        plan = self.plan
        spec, data = plan.prepared.spec, plan.prepared.data
        return TaskInfo(
            name=spec.name,
            version=spec.version,
            code_sha256=TASKS.entry(spec.name).code,
            kind=spec.kind,
            options=plan.prepared.options,
            source=plan.prepared.source,
            data_sha256=plan.prepared.data_sha256,
            n_train=len(data.train),
            n_val=len(data.val),
            n_test=len(data.test),
            sequence_length=data.train.sequence_length,
        )

    def _environment(self) -> Environment:
        plan = self.plan
        return Environment(
            device=plan.device.type,
            device_name=device_name(plan.device),
            threads=plan.config.threads,
            python=platform.python_version(),
            torch=torch.__version__,
            cuda=torch.version.cuda,
            seqbench=seqbench_version(),
            git_commit=plan.git[0],
            git_dirty=plan.git[1],
        )


def _small(predictions: np.ndarray) -> np.ndarray:
    """Predictions in single precision: half the size, and more digits than any metric needs."""
    return predictions.astype(np.float32) if predictions.dtype == np.float64 else predictions


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
