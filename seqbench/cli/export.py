"""`export`: records for TensorBoard, MLflow or W&B, a trained model as an ONNX file; after the fact, and offline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from seqbench.cli.common import FLAT, Common, show_json, speaker
from seqbench.errors import UserError
from seqbench.options import DATA, OUTPUT, WHAT, Parameter
from seqbench.report.terminal import print_path
from seqbench.report.text import counted

if TYPE_CHECKING:
    from seqbench.export.mlflow import MLflow
    from seqbench.export.tensorboard import TensorBoard
    from seqbench.export.tracked import TrackedRun
    from seqbench.export.wandb import WandB

__all__ = ["COMMAND", "Export"]

EVERY = 15.0  # seconds between lines that say how far it is


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write records for others' trackers of experiments, or a trained model as an ONNX file that was checked."""

    records: tuple[Path, ...] = field(kw_only=False)
    """Directories of records, as for `leaderboard`; with --to onnx the record.json of one run, or its folder."""
    to: Annotated[Literal["tensorboard", "mlflow", "wandb", "onnx"], Parameter(group=WHAT)]
    """Whose form."""
    out: Annotated[Path, Parameter(group=OUTPUT, metavar="PATH")]
    """Folder to write into; with --to onnx the file, which ends in .onnx."""
    data: Annotated[Path | None, Parameter(group=DATA, metavar="FILE")] = None
    """With --to onnx, of a run on a file of yours: that file, whose test rows the model is checked on."""
    test: Annotated[Path | None, Parameter(group=DATA, metavar="FILE")] = None
    """Likewise, the file that was the test."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __post_init__(self) -> None:
        """Refuse what belongs to the other half of the command."""
        if self.to == "onnx" and len(self.records) != 1:
            raise UserError(f"--to onnx writes one model: name one run, not {len(self.records)}.")
        if self.to != "onnx" and (self.data, self.test) != (None, None):
            raise UserError("--data and --test are for --to onnx, which checks the model on test rows: leave them out.")

    def __call__(self) -> int:
        """Write it, and say where and what opens it."""
        return self._model() if self.to == "onnx" else self._runs()

    def _model(self) -> int:
        from seqbench.export.onnx import export_onnx
        from seqbench.export.packages import need

        need("onnx", "onnx", "onnxruntime", "onnxscript")
        made = export_onnx(self.records[0], self.out, self.data, self.test, speaker("export"))
        if self.common.json:
            show_json(vars(made))
            return 0
        print_path(f"{made.fits}, {made.size:,} bytes: ", made.path)
        print(
            f"checked on {counted(made.rows, 'test row')}: the greatest difference from seqbench's own predictions is "
            f"{made.worst:.1e}"
        )
        return 0

    def _runs(self) -> int:
        from seqbench.export.tracked import tracked_runs

        runs = tracked_runs(self.records)
        tracker = self._tracker()
        try:
            new = self._write(tracker, runs)
        finally:
            tracker.close()
        failed = sum(run.ending != "finished" for run in runs)
        if self.common.json:
            show_json({"out": self.out, "runs": len(runs), "written": new, "failed": failed, "opens": tracker.opens})
            return 0
        there = f"; {len(runs) - new:,} were there already" if new < len(runs) else ""
        print_path(f"{counted(new, 'run')} written{there}; {failed:,} did not end well: ", self.out)
        print_path("see them: ", tracker.opens)
        return 0

    def _tracker(self) -> TensorBoard | MLflow | WandB:
        if self.to == "tensorboard":
            from seqbench.export.tensorboard import TensorBoard

            return TensorBoard(self.out)
        if self.to == "mlflow":
            from seqbench.export.mlflow import MLflow

            return MLflow(self.out)
        from seqbench.export.wandb import WandB

        return WandB(self.out)

    def _write(self, tracker: TensorBoard | MLflow | WandB, runs: Sequence[TrackedRun]) -> int:
        """How many were not there."""
        say, said, new = speaker("export"), time.monotonic(), 0
        for i, run in enumerate(runs):
            if time.monotonic() - said > EVERY:
                said = time.monotonic()
                say(f"{i:,} of {counted(len(runs), 'run')}")
            new += tracker.write(run)
        return new


COMMAND = Export
