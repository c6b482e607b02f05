"""The record that one case of a probe leaves behind, and the directory that holds such records. No torch.

It lies under ``<out>/probes/<probe>/<model>/<budget>-seed<seed>-<key>/run-<n>/record.json``, written and resumed as the
records of tasks are (`seqbench.jobs.store`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import JsonValue

from seqbench.jobs.record import Environment, Hash, Kept, Name, Strict, hash_of
from seqbench.jobs.store import KeptStore
from seqbench.probes import Case

__all__ = ["MeasuredModel", "ProbeInfo", "ProbeRecord", "ProbeStore", "case_key"]

FOLDER = "probes"
TOGETHER = "together"  # the folder of cases that measure several models side by side


class ProbeInfo(Strict):
    """Which measurement."""

    name: Name
    version: int


class MeasuredModel(Strict):
    """Which model."""

    name: Name
    version: int
    code_sha256: Hash | None  # of a plug-in's file; None for what is installed


class ProbeRecord(Kept):
    """One case's result, None unless the status is ok; `seconds` are wall-clock."""

    NEWEST: ClassVar[int] = 1

    schema_version: Literal[1]
    probe: ProbeInfo
    models: tuple[MeasuredModel, ...]
    case: dict[str, JsonValue]
    result: dict[str, JsonValue] | None
    summary: str
    seconds: float
    environment: Environment
    started: str
    finished: str

    @property
    def headline(self) -> str:
        """The probe's own summary, or why there is none."""
        return self.summary if self.result is not None else super().headline

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        return case_key(self.probe.model_dump(), [model.model_dump() for model in self.models], self.case)

    def read_case(self) -> Case:
        """The case that was measured."""
        return Case.from_json(self.case)


def case_key(probe: dict[str, Any], models: list[dict[str, Any]], case: dict[str, Any]) -> str:
    """SHA-256 of all that decides a case's result: the probe, the models' code, and the case."""
    return hash_of({"probe": probe, "models": models, "case": case})


class ProbeStore(KeptStore[ProbeRecord]):
    """Records of probes under ``<out>/probes``."""

    record = ProbeRecord

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        super().__init__(self.out / FOLDER)

    def folder(self, case: Case, key: str) -> Path:
        """Where the runs of ``case`` lie."""
        model = case.models[0] if len(case.models) == 1 else TOGETHER
        return self.cell(case.probe, model, case.budget, case.seed, key)
