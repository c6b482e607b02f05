"""The board as data: JSON with everything (strict: what isn't known is null), CSV with a line a row. No torch."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqbench.board.choice import Entrant
from seqbench.board.collect import Cell
from seqbench.board.compare import Difference, Sure
from seqbench.board.overview import Overview
from seqbench.board.table import Row, Table
from seqbench.jobs.store import RECORD
from seqbench.report.text import relative

__all__ = ["render_csv", "render_json"]

Json = dict[str, Any]


def render_json(tables: Sequence[Table], overviews: Sequence[Overview], *, quality: bool, base: Path) -> str:
    """Tables with per-seed values, differences and record paths (relative to ``base``), then overviews."""
    base = base.resolve()
    content = {
        "columns": "quality" if quality else "all",
        "tables": [_table(it, quality, base) for it in tables],
        "overviews": [_overview(it) for it in overviews],
    }
    return json.dumps(_strict(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def render_csv(tables: Sequence[Table], *, quality: bool, base: Path) -> str:
    """One line a row of a table, with the table's conditions repeated on it."""
    lines = [_flat(it, row, quality, base.resolve()) for it in tables for row in it.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _rounded(value: float) -> float | None:
    return float(f"{value:.10g}") + 0.0 if math.isfinite(value) else None


def _strict(value: Any) -> Any:
    """Floats to ten digits and NaN to null, however deep."""
    if isinstance(value, float):
        return _rounded(value)
    if isinstance(value, dict):
        return {str(name): _strict(item) for name, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """A cell that a spreadsheet takes for text or a number, never for a formula."""
    value = _strict(value)
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _about(it: Table) -> Json:
    group, task, primary = it.group, it.group.task, it.group.primary
    return {
        "title": it.title,
        "task": task.name,
        "task_version": task.version,
        "task_code_sha256": task.code_sha256,
        "kind": task.kind,
        "options": task.options,
        "source": task.source,
        "data_sha256": task.data_sha256,
        "n_test": task.n_test,
        "n_groups": group.n_groups,
        "budget": group.budget,
        "track": it.track,
        "device": group.device,
        "config": group.config,
        "metric": primary.name if primary else None,
        "unit": primary.unit if primary else None,
        "direction": primary.direction if primary else None,
        "reference": primary.reference if primary else None,
        "perfect": primary.perfect if primary else None,
    }


def _interval(sure: Sure | None) -> Json | None:
    return None if sure is None else {"value": sure.value, "low": sure.low, "high": sure.high}


def _table(it: Table, quality: bool, base: Path) -> Json:
    basis = it.basis
    costs = {
        "device_name": basis.device_name if basis else None,
        "seconds": "cpu" if basis and basis.cpu else "wall-clock",
        "runs_on_other_devices": basis.others if basis else 0,
        "runs_interrupted": basis.interrupted if basis else 0,
    }
    return {
        **_about(it),
        "seeds": it.seeds,
        **({} if quality else {"costs": costs}),
        "rows": [_row(it, row, quality, base) for row in it.rows],
        "differences": [_difference(one) for one in it.comparison.differences],
        "smallest_detectable_difference": it.comparison.least,
        "strongest_baseline": it.strongest,
        "differences_from_strongest_baseline": [_difference(one) for one in it.against],
    }


def _difference(one: Difference) -> Json:
    return {
        "first": one.first,
        "second": one.second,
        "difference": one.sure.value,
        "low": one.sure.low,
        "high": one.sure.high,
        "p": one.p,
        "p_adjusted": one.adjusted,
        "better": one.better,
    }


def _row(it: Table, row: Row, quality: bool, base: Path) -> Json:
    found: Json = {
        "label": row.label,
        "baseline": row.entrant is None,
        **_ranks(row.ranks),
        "metric": _interval(row.metric),
        "skill": _interval(row.skill),
        "better_than": it.better_than(row.label),
    }
    entrant = row.entrant
    if entrant is None:
        return found
    found |= {
        "model": entrant.model.name,
        "model_version": entrant.model.version,
        "model_code_sha256": entrant.model.code or None,
        **_size(entrant),
        "not_applicable": entrant.not_applicable,
        "learning_rate": entrant.rate,
        "learning_rates_tried": [_trial(rate, cell, quality, base) for rate, cell in entrant.trials.items()],
        "runs_not_shown": entrant.others,
        "seeds": [_seed(entrant, seed, quality, base) for seed in sorted({*it.seeds, *entrant.cells})],
    }
    return found if quality else found | _costs(row)


def _ranks(ranks: tuple[int, int, int] | None) -> Json:
    rank, low, high = ranks or (None, None, None)
    return {"rank": rank, "rank_low": low, "rank_high": high}


def _size(entrant: Entrant) -> Json:
    first = next((cell for cell in entrant.cells.values() if cell.params is not None), None)
    return {"parameters": first.params if first else None, "hidden": list(first.hidden) if first else None}


def _costs(row: Row) -> Json:
    costs = row.costs
    return {
        "train_seconds": costs.seconds if costs else None,
        "tokens_per_second": costs.tokens_per_second if costs else None,
        "peak_memory_bytes": costs.memory if costs else None,
        "tuning_seconds": costs.tuning if costs else None,
        "tuning_seconds_are_all": costs.tuning_known if costs else None,
    }


def _seed(entrant: Entrant, seed: int, quality: bool, base: Path) -> Json:
    cell = entrant.cells.get(seed)
    if cell is None:
        return {"seed": seed, "status": "missing"}
    found = {"seed": seed, "status": cell.status, "value": cell.test, "validation": cell.val}
    if quality:
        return found
    return {**found, "reason": cell.reason, "record": relative(cell.folder / RECORD, base), "finished": cell.finished}


def _trial(rate: float, cell: Cell | None, quality: bool, base: Path) -> Json:
    found = {"learning_rate": rate, "status": cell.status if cell else None, "validation": cell.val if cell else None}
    return found if quality else {**found, "record": relative(cell.folder / RECORD, base) if cell else None}


def _flat(it: Table, row: Row, quality: bool, base: Path) -> Json:
    about = _about(it)
    about |= {name: json.dumps(about[name], sort_keys=True, ensure_ascii=False) for name in ("options", "config")}
    entrant, metric, skill = row.entrant, row.metric, row.skill
    cells = list(entrant.cells.values()) if entrant else []
    size = _size(entrant) if entrant else {"parameters": None, "hidden": None}
    found = {
        **about,
        **_ranks(row.ranks),
        "row": "baseline" if entrant is None else "model",
        "label": row.label,
        "model_version": entrant.model.version if entrant else None,
        "value": metric.value if metric else None,
        "value_low": metric.low if metric else None,
        "value_high": metric.high if metric else None,
        "skill": skill.value if skill else None,
        "skill_low": skill.low if skill else None,
        "skill_high": skill.high if skill else None,
        "better_than": "; ".join(it.better_than(row.label)),
        "parameters": size["parameters"],
        "hidden": " ".join(map(str, size["hidden"] or ())),
        "learning_rate": entrant.rate if entrant else None,
        "learning_rates_tried": " ".join(f"{rate:g}" for rate in entrant.trials) if entrant else None,
        "seeds": row.state(it.seeds),
    }
    if quality:
        return found
    device = {"cost_device": it.basis.device_name if it.basis and entrant else None}
    return {
        **found,
        **_costs(row),
        **device,
        "records": "; ".join(relative(cell.folder / RECORD, base) for cell in cells),
    }


def _overview(it: Overview) -> Json:
    return {
        "title": it.title,
        "tasks": [one.group.task.name for one in it.tables],
        "rows": [
            {
                "label": row.label,
                **_ranks(row.ranks),
                "mean_skill": _interval(row.skill),
                "better_than": it.better_than(row.label),
                "skills": [_interval(one.skill) if one else None for one in row.rows],
                "seeds": [
                    one.state(part.seeds) if one else "not run" for one, part in zip(row.rows, it.tables, strict=True)
                ],
            }
            for row in it.rows
        ],
        "differences": [_difference(one) for one in it.comparison.differences],
        "smallest_detectable_difference": it.comparison.least,
    }
