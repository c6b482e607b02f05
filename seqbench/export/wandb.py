"""Runs in the offline format of Weights & Biases: a folder for each, which ``wandb sync`` sends when somebody wants it.

They are written by the package itself in its offline mode, without what it would note of this process: its machine,
its code, its console and its packages, none of which the run had anything to do with.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


class WandB:
    """Writes runs into ``out / wandb``; a project for each set of data."""

    def __init__(self, out: Path) -> None:
        need("wandb", "wandb")
        check_out(out)
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # before it is imported; else it would report its own errors
        import wandb

        self.out, self.wandb = out, wandb
        self.opens = f"wandb sync {out / 'wandb'}/offline-run-*"
        self.settings = {name: value for name, value in QUIET.items() if name in wandb.Settings.model_fields}

    def write(self, run: TrackedRun) -> bool:
        """Whether it had to be written."""
        began = datetime.fromtimestamp(run.started, UTC).strftime("%Y%m%d_%H%M%S")
        folder = self.out / "wandb" / f"offline-run-{began}-{run.id}"
        new = not is_there(folder, run)
        if new:
            with replaced(folder, run, self.out) as place, tempfile.TemporaryDirectory() as work:
                self._write(run, Path(work))
                (file,) = Path(work).rglob(f"run-{run.id}.wandb")
                (place / "files").mkdir()
                (place / file.name).write_bytes(file.read_bytes())
        for path in folder.parent.glob(f"offline-run-*-{run.id}"):
            if path != folder:  # of the same cell, run at another time
                shutil.rmtree(path)
        return new

    def close(self) -> None:
        """End the process that writes."""
        self.wandb.teardown()

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
