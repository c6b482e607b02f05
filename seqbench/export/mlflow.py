"""Runs in an MLflow store: a data base in one file, which is the store that MLflow 3 asks for and its page opens.

An experiment for each set of data; a run for each record, with parameters, metrics by step and tags. Nothing is sent
anywhere: the client talks to the file, and MLflow's own telemetry is switched off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from seqbench.errors import UserError
from seqbench.export.folders import check_out
from seqbench.export.packages import need
from seqbench.export.tracked import Ending, TrackedRun, safe_name
from seqbench.report.text import short

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MLflow"]

FILE = "mlflow.db"
ID, DIGEST = "seqbench.id", "seqbench.sha256"  # tags: which run, and what is told of it
STATUS: dict[Ending, str] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
LONGEST = 5000  # letters of a parameter or tag; MLflow takes 6000 and 8000
MOST_METRICS, MOST_PARAMS = 1000, 100  # that MLflow takes at once
T = TypeVar("T")


class MLflow:
    """Writes runs into ``out / mlflow.db``, which ``mlflow ui`` opens."""

    def __init__(self, out: Path) -> None:
        need("mlflow", "mlflow", "sqlalchemy", "alembic")
        check_out(out)
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before it is imported
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.out = out.resolve()
        self.opens = f"mlflow ui --backend-store-uri sqlite:///{(self.out / FILE).as_posix()}"
        self.known: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {}  # experiments, and runs by id
        with _told():
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing it has set it anew
            self.client = MlflowClient(tracking_uri=f"sqlite:///{(self.out / FILE).as_posix()}")

    def write(self, run: TrackedRun) -> bool:
        """Whether it had to be written."""
        with _told():
            experiment, runs = self._experiment(run.group)
            there, digest = runs.get(run.id, ("", ""))
            if digest == run.digest:
                return False
            if there:
                self.client.delete_run(there)
            _write(self.client, experiment, run)
        return True

    def close(self) -> None:
        """Nothing is open."""

    def _experiment(self, name: str) -> tuple[str, dict[str, tuple[str, str]]]:
        """The number of the experiment ``name``, and its runs by their ids, each with its number and digest."""
        if name not in self.known:
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                raise UserError(
                    f"experiment {name} was deleted in {self.out / FILE}: restore it, or name another --out."
                )
            number = self._new_experiment(name) if found is None else str(found.experiment_id)
            self.known[name] = number, dict(self._runs(number)) if found else {}
        return self.known[name]

    def _new_experiment(self, name: str) -> str:
        # else the files of its runs would go to a folder of wherever this runs
        return str(self.client.create_experiment(name, artifact_location=(self.out / "mlartifacts").as_uri()))

    def _runs(self, experiment: str) -> Iterator[tuple[str, tuple[str, str]]]:
        token, more = None, True
        while more:
            page = self.client.search_runs([experiment], max_results=1000, page_token=token)
            token, more = page.token, bool(page.token)
            for run in page:
                tags = run.data.tags
                if ID in tags:
                    yield tags[ID], (run.info.run_id, tags.get(DIGEST, ""))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What MLflow finds wrong is a sentence; what its libraries say of themselves is not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if not type(error).__module__.startswith(("mlflow", "sqlalchemy")):
                raise
            what = short(str(error).splitlines()[0], 200)
            raise UserError(f"MLflow could not write ({what}): name another --out, or update mlflow.") from None


def _write(client: MlflowClient, experiment: str, run: TrackedRun) -> None:
    from mlflow.entities import Metric, Param, RunTag

    def moment(time: float) -> int:
        return round(time * 1000)

    new = client.create_run(
        experiment,
        start_time=moment(run.started),
        run_name=run.name,
        tags={ID: run.id, "mlflow.source.name": "seqbench"},
    )
    number = new.info.run_id
    metrics = [
        Metric(_key(name), value, moment(point.time), point.step)
        for point in run.curve
        for name, value in point.figures.items()
    ]
    metrics += [Metric(_key(name), value, moment(run.ended), run.step) for name, value in run.figures.items()]
    params = [Param(_key(name), short(str(value), LONGEST)) for name, value in run.settings.items()]
    tags = [RunTag(f"seqbench.{_key(name)}", short(value, LONGEST)) for name, value in run.about.items()]
    for few in _pieces(metrics, MOST_METRICS):
        client.log_batch(number, metrics=few)
    for some in _pieces(params, MOST_PARAMS):
        client.log_batch(number, params=some)
    client.log_batch(number, tags=tags)
    client.set_terminated(number, STATUS[run.ending], moment(run.ended))
    client.set_tag(number, DIGEST, run.digest)  # at last: what has none is not whole, and is replaced


def _pieces(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


def _key(name: str) -> str:
    """``name`` as MLflow takes it."""
    return "/".join(map(safe_name, name.split("/")))
