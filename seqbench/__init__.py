"""seqbench: train sequence models on real data and measure their documented limits.

``seqbench.run("dna", "lstm", budget="quick")`` trains one model on one task and returns its record; several names or
``seeds=3`` run a grid. Everything below is imported on first use, so that listing tasks or reading records never waits
for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what is called most, with its types
    from seqbench.api import Board, PairedModels, Results, RunResult, compare, leaderboard, predict, run, show
    from seqbench.board import load_results

__all__ = [
    "Axis",
    "Batch",
    "Board",
    "Budget",
    "Chart",
    "DataShown",
    "Head",
    "Line",
    "Listener",
    "Measured",
    "Metric",
    "Mixer",
    "PairedModels",
    "Pairs",
    "Panel",
    "Points",
    "Probe",
    "ProbeSpec",
    "Ragged",
    "RaggedTags",
    "Range",
    "Recipe",
    "Record",
    "Request",
    "Results",
    "Rows",
    "Rule",
    "RunConfig",
    "RunResult",
    "Segments",
    "Shape",
    "Source",
    "Split",
    "Store",
    "Stream",
    "Tagged",
    "TaskData",
    "TaskSpec",
    "Training",
    "Truth",
    "UserError",
    "Windows",
    "aligned_table",
    "check_options",
    "compare",
    "leaderboard",
    "load_plugin",
    "load_results",
    "look_of",
    "predict",
    "register_baseline",
    "register_head",
    "register_model",
    "register_probe",
    "register_task",
    "run",
    "seeds_together",
    "show",
]

_HOME = {
    "seqbench.api": (
        "Board",
        "DataShown",
        "PairedModels",
        "Results",
        "RunResult",
        "compare",
        "leaderboard",
        "predict",
        "run",
        "show",
    ),
    "seqbench.baselines": ("register_baseline",),
    "seqbench.board": ("load_results",),
    "seqbench.config": ("RunConfig",),
    "seqbench.data": (
        "Batch",
        "Pairs",
        "Ragged",
        "RaggedTags",
        "Rows",
        "Segments",
        "Split",
        "Stream",
        "Tagged",
        "TaskData",
        "Truth",
        "Windows",
    ),
    "seqbench.errors": ("UserError",),
    "seqbench.models.heads": ("Head", "Shape", "register_head"),
    "seqbench.models.mixer": ("Mixer", "register_model"),
    "seqbench.jobs.job": ("Listener",),
    "seqbench.jobs.record": ("Record",),
    "seqbench.probes": ("Measured", "Probe", "ProbeSpec", "Request", "register_probe", "seeds_together"),
    "seqbench.report.chart": ("Axis", "Chart", "Line", "Panel", "Points", "Rule", "look_of"),
    "seqbench.options": ("Range", "check_options"),
    "seqbench.registry": ("load_plugin",),
    "seqbench.report.text": ("aligned_table",),
    "seqbench.jobs.store": ("Store",),
    "seqbench.task": ("Budget", "Metric", "Recipe", "Source", "TaskSpec", "Training", "register_task"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'seqbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
