"""One case of a probe from its plan to its record."""

from __future__ import annotations

import errno
import platform
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqbench.device import device_name, settings
from seqbench.environment import git_state, seqbench_version
from seqbench.errors import UserError
from seqbench.experiment import Listener, failure, now
from seqbench.jobs.pool import Job
from seqbench.jobs.record import DONE, Environment
from seqbench.models.mixer import MODELS
from seqbench.probes import Case, get_probe
from seqbench.probes.record import MeasuredModel, ProbeInfo, ProbeRecord, ProbeStore, case_key

__all__ = ["CaseWork", "ProbeStore", "run_case"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class CaseWork:
    """A case as the runner wants it: with the key of its record and the folder of its runs."""

    case: Case
    key: str
    folder: Path

    @classmethod
    def of(cls, case: Case, store: ProbeStore) -> CaseWork:
        """Find out the key; raises `UserError` for an unknown probe or model."""
        key = case_key(_info(case).model_dump(), [model.model_dump() for model in _models(case)], case.to_json())
        return cls(case, key, store.folder(case, key))

    @property
    def name(self) -> str:
        """What a reader tells it by."""
        return self.case.name

    @property
    def kind(self) -> tuple[str, ...]:
        """What it shares with cases that take about as long."""
        words = (str(value) for value in self.case.options.values() if isinstance(value, str))
        return self.case.probe, *self.case.models, *words

    def job(self, root: Path, plugins: tuple[Path, ...], *, force: bool) -> Job:
        """What another process needs to run it; ``root`` is the store's."""
        return Job(self.key, "probe", self.case.to_json(), self.case.threads, root.parent, plugins, force)

    def failed(self, status: Any, reason: str) -> ProbeRecord:
        """Its record if its process left none."""
        return self.record(status, reason, now(), 0.0)

    def record(
        self, status: Any, reason: str | None, started: str, seconds: float, result: dict[str, Any] | None = None
    ) -> ProbeRecord:
        """The record of this case with whatever is known."""
        case = self.case
        commit, dirty = git_state()
        return ProbeRecord(
            schema_version=1,
            key=self.key,
            status=status,
            reason=reason,
            probe=_info(case),
            models=_models(case),
            case=case.to_json(),
            result=result,
            summary="" if result is None else get_probe(case.probe).headline(case, result),
            seconds=round(seconds, 3),
            environment=Environment(
                device=case.device,
                device_name=device_name(torch.device(case.device)),
                threads=case.threads,
                python=platform.python_version(),
                torch=torch.__version__,
                cuda=torch.version.cuda,
                seqbench=seqbench_version(),
                git_commit=commit,
                git_dirty=dirty,
            ),
            started=started,
            finished=now(),
        )


def _info(case: Case) -> ProbeInfo:
    return ProbeInfo(name=case.probe, version=get_probe(case.probe).version)


def _models(case: Case) -> tuple[MeasuredModel, ...]:
    entries = [MODELS.entry(name) for name in case.models]
    return tuple(MeasuredModel(name=e.name, version=e.value.version, code_sha256=e.code) for e in entries)


def run_case(
    case: Case, store: ProbeStore, *, force: bool = False, listener: Listener | None = None
) -> tuple[ProbeRecord, Path]:
    """Measure ``case``, or find its stored record; a failure leaves a record that says how.

    Raises:
        UserError: it can't be measured, or the store can't be written; nothing is written then.
    """
    work, listener = CaseWork.of(case, store), listener or Listener()
    found = store.find(work.folder, work.key)
    if found and found[0].status in DONE and not force:
        return found
    store.probe()
    with store.writing(work.folder) as folder:
        started, clock = now(), time.perf_counter()
        try:
            with settings(torch.device(case.device), case):
                result = get_probe(case.probe).measure(case, listener)
            record = work.record("ok", None, started, time.perf_counter() - clock, result)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:  # the disk's failure, not the model's
                raise
            status, reason = ("error", str(error)) if isinstance(error, UserError) else failure(error)
            record = work.record(status, reason, started, time.perf_counter() - clock)
            if status == "error":
                (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return store.publish(folder, work.folder, record, again=found is not None)
