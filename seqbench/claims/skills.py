"""Whether one model is as good as another on real tasks, from the records of a board. No torch."""

from __future__ import annotations

import math
from pathlib import Path

from seqbench.board import BoardTable, PairedSkill, load_results, make_tables, paired_skill
from seqbench.claims.memory import FEW, SEEDS
from seqbench.claims.verdict import Condition
from seqbench.stats import Interval

__all__ = ["skill_conditions"]

TRACK, BUDGETS = "equal width", ("full", "standard", "quick")  # the most thorough that the board has
UNKNOWN = Interval(math.nan, math.nan, math.nan)


def skill_conditions(board: Path, model: str, other: str, margin: float) -> list[Condition]:
    """The skill of ``model`` minus that of ``other`` on each task of the usual tables under ``board``.

    ``model`` is not inferior where the interval lies above -``margin``. Of each task the most thorough budget counts
    that has both. A task on which one of the two is incomplete is undecided, and says so.
    """
    best: dict[str, tuple[BoardTable, PairedSkill]] = {}
    for table in sorted(_tables(board), key=lambda table: BUDGETS.index(table.conditions.budget)):
        skill = paired_skill(table, model, other)
        if skill is not None:
            best.setdefault(table.conditions.task, (table, skill))
    return [_condition(*best[task], margin) for task in sorted(best)]


def _tables(board: Path) -> list[BoardTable]:
    if not any(board.glob("*/*/*/run-*")):
        return []
    usual = [table for table in make_tables(load_results(board)) if not table.variant and not table.setting]
    return [table for table in usual if table.conditions.track.startswith(TRACK) and table.conditions.budget in BUDGETS]


def _condition(table: BoardTable, skill: PairedSkill, margin: float) -> Condition:
    task, budget = table.conditions.task, table.conditions.budget
    axes = {"measure": f"skill on {task} ({budget})", "backend": "", "batch": "", "length": ""}
    region = f"at least -{margin:g}"
    if skill.difference is None:
        return Condition(axes, UNKNOWN, "of skill", None, region, skill.folders, f"{task}: {skill.states}")
    known = Condition.of(axes, skill.difference, "of skill", (-margin, math.inf), region, skill.folders)
    return known.if_known(len(skill.seeds) >= SEEDS, FEW)
