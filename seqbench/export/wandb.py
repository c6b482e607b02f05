"""Runs in the offline format of Weights & Biases: a folder for each, which ``wandb sync`` sends when somebody wants it.

They are written by the package itself in its offline mode, without what it would note of this process: its machine,
its code, its console and its packages, none of which the run had anything to do with.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seqbench.disk import temporary_folder
from seqbench.errors import UserError
from seqbench.export.folders import check_out, is_there, replaced
from seqbench.export.packages import need
from seqbench.export.tracked import TrackedRun
from seqbench.report.text import short

__all__ = ["WandB"]

QUIET = {
    "mode": "offline",
    "silent": True,
    "quiet": True,
    "console": "off",
    "host": "seqbench",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
LONGEST = 64  # letters of a tag
AT_ONCE = 50  # runs that wait for the process to end
LEAST = 100  # bytes of a file that holds a run; one without has seven


class WandB:
    """Writes runs into ``out / wandb``; a project for each set of data.

    The package writes in a process of its own, and a file is whole only when that has ended: so runs are written
    beside, some at a time, and then get their places.
    """

    def __init__(self, out: Path) -> None:
        need("wandb", "wandb")
        check_out(out)
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # before it is imported; else it would report its own errors
        os.environ.pop("WANDB_SERVICE", None)  # of a process that is not ours to end
        import wandb

        self.out, self.wandb = out, wandb
        self.opens = f"wandb sync {out / 'wandb'}/offline-run-*"
        self.settings = {name: value for name, value in QUIET.items() if name in wandb.Settings.model_fields}
        self.work = temporary_folder(out)
        self.waiting: list[tuple[TrackedRun, Path]] = []

    def write(self, run: TrackedRun) -> bool:
        """Whether it had to be written."""
        began = datetime.fromtimestamp(run.started, UTC).strftime("%Y%m%d_%H%M%S")
        folder = self.out / "wandb" / f"offline-run-{began}-{run.id}"
        if is_there(folder, run):
            self._remove_others(folder, run)
            return False
        self._write(run, self.work)
        self.waiting.append((run, folder))
        if len(self.waiting) >= AT_ONCE:
            self._publish()
        return True

    def close(self) -> None:
        """End the process that writes, and put the last runs into their places."""
        try:
            self._publish()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def _publish(self) -> None:
        self.wandb.teardown()
        waiting, self.waiting = self.waiting, []
        for run, folder in waiting:
            (file,) = self.work.rglob(f"run-{run.id}.wandb")
            if file.stat().st_size < LEAST:
                raise UserError(f"W&B has written nothing of {run.name}: update wandb, and give the command again.")
            with replaced(folder, run, self.out) as place:
                (place / "files").mkdir()
                (place / file.name).write_bytes(file.read_bytes())
            self._remove_others(folder, run)

    def _remove_others(self, folder: Path, run: TrackedRun) -> None:
        """Of the same cell, run at another time."""
        for path in folder.parent.glob(f"offline-run-*-{run.id}"):
            if path != folder:
                shutil.rmtree(path)

    def _write(self, run: TrackedRun, folder: Path) -> None:
        tags = [run.about["status"], run.settings["task"], run.settings["model"]]
        config = {**run.settings, **{f"about/{name}": value for name, value in run.about.items()}}
        try:
            began: Any = self.wandb.init(
                dir=folder,
                id=run.id,
                project=run.group,
                group=str(run.settings["task"]),
                job_type=str(run.settings["model"]),
                name=run.name,
                tags=[short(str(tag), LONGEST) for tag in tags],
                notes=run.about.get("reason"),
                config=config,
                settings=self.wandb.Settings(**self.settings),
                reinit="create_new",
            )
            for point in run.curve:
                began.log({**point.figures, "_timestamp": point.time}, step=point.step)
            began.summary.update(dict(run.figures))
            began.finish(exit_code=0 if run.ending == "finished" else 1)
        except self.wandb.Error as error:
            raise UserError(f"W&B could not write ({short(str(error), 200)}): update wandb.") from None
