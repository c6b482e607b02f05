"""Claims 9 and 10: what is lost between encoder and decoder, and what reading in both directions brings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.board import BoardTable, paired_skill
from seqbench.claims import Evidence, public, register_claim
from seqbench.claims.names import BOTH_WAYS, LSTM, THOROUGH, model_title
from seqbench.claims.rules import NOT_MEASURED, UNKNOWN, Aside, Claim, Condition
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.report.text import interval_text, rounded
from seqbench.stats import Interval, over_seeds

__all__ = ["both_directions", "fixed_vector"]

Array = npt.NDArray[np.float64]
FRAME = "encoder-decoder"  # the usual one, in which attention can be left out
LONG, WHOLE = "bleu_long", "bleu"  # metrics of tasks that translate
PIECES = 25  # of a source; longer ones are long


# --- from encoder to decoder -----------------------------------------------------------------------------------------


class Bridged(NamedTuple):
    """One model that translates, without attention and with it, seed by seed.

    Attributes:
        whole, long: (2, S) BLEU of all test sentences and of the long ones; first without attention.
        floor: BLEU of the best baseline: what could be had without a net.
        records: of both, as paths of folders.
        lost: what keeps them from being compared, empty where every run went well.
    """

    model: str
    table: BoardTable
    whole: Array
    long: Array
    floor: float
    records: list[Path]
    lost: str = ""

    @property
    def change(self) -> Interval:
        """By how much the long sentences' share of the whole BLEU is less without attention; below 0 where it is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = self.long / self.whole
        return over_seeds((shares[0] - shares[1]).tolist())


@register_claim(9)
def fixed_vector(evidence: Evidence) -> Claim:
    """Long sentences without attention, of every model that was trained both ways."""
    both = list(_bridged(evidence))
    return Claim(
        "Between encoder and decoder a fixed vector loses long sentences.",
        "Cho et al. 2014 (properties of neural machine translation); Bahdanau et al. 2015; against it Sutskever et al. "
        "2014",
        f"on tasks that translate, the BLEU of test sentences of more than {PIECES} pieces as a share of the BLEU of "
        "all, without attention less with it, paired over seeds, at equal width; the interval is Student's over seeds, "
        "on the same sentences; tested only where the net without attention translates better than every baseline, "
        "such as a translation memory",
        _bridged_statement(both) if both else NOT_MEASURED,
        [_lost(one) for one in both],
        {"BLEU of all sentences and of long ones:": [aside for one in both for aside in _bleu_of_both(one)]},
    )


def _bridged(evidence: Evidence) -> Iterator[Bridged]:
    """Of every task that translates, at the most thorough budget at which both ways were trained."""
    ways: dict[tuple[object, ...], dict[bool, BoardTable]] = {}  # by all that decides a figure but attention
    for table in (*evidence.tables, *evidence.variants):
        about = table.conditions
        setting = about.setting()
        attention = setting.pop("attention", None) or "dot"
        if (
            about.kind == "translate"
            and about.source != "path"
            and not about.control
            and setting.get("frame") in (None, FRAME)
        ):
            alike = (about.task, about.budget, about.track, repr(sorted(setting.items())), repr(about.variant()))
            ways.setdefault(alike, {})[attention != "none"] = table
    done: set[tuple[str, str]] = set()
    for budget in THOROUGH:
        for both in ways.values():
            if len(both) < 2 or both[True].conditions.budget != budget:
                continue
            task = both[True].conditions.task
            for model in sorted({row.first.model for row in both[True].models}):
                if (task, model) not in done and (found := _pair(both[False], both[True], model)):
                    done.add((task, model))
                    yield found


def _pair(without: BoardTable, table: BoardTable, model: str) -> Bridged | None:
    """None where either has not been trained, or several versions of it have."""
    named = [
        [row for row in it.models if row.first.model == model and row.first.bundle is None] for it in (without, table)
    ]
    if any(len(rows) != 1 for rows in named):
        return None
    rows = [rows[0] for rows in named]
    runs = [row.results for row in rows]
    common = sorted(runs[0].keys() & runs[1].keys())
    seeds = [seed for seed in common if all(run[seed].outcome == "ok" for run in runs)]
    if not seeds:
        return None
    folders = [run[seed].folder for run in runs for seed in seeds]
    records = [record for record in map(Store.read, folders) if isinstance(record, RunRecord)]
    whole, long = (
        np.array([record.metrics["test"][name] for record in records], dtype=float).reshape(2, -1)
        for name in (WHOLE, LONG)
    )
    floor = max((baseline.value for baseline in table.baselines.values()), default=math.nan)
    states = f"{rows[0].state} without attention, {rows[1].state} with it"
    return Bridged(model, table, whole, long, floor, folders, "" if len(seeds) == len(common) else states)


def _lost(one: Bridged) -> Condition:
    """The change of the long sentences' share; a net that translates nothing is no test of what gets through."""
    axes = {"model": one.model, "task": _name(one.table)}
    condition = Condition.of(axes, one.change, "of BLEU", (-math.inf, 0.0), records=one.records)
    reached = float(one.whole[0].mean())
    why = (
        f"{model_title(one.model)}: without attention BLEU {rounded(reached)}, the best baseline has "
        f"{rounded(one.floor)}"
    )
    known = condition.if_known(not one.lost, f"{model_title(one.model)}: {one.lost}")
    return known.if_seeds(one.whole.shape[1]).if_tested(reached > one.floor, why)


def _name(table: BoardTable) -> str:
    return f"{table.conditions.task} ({table.conditions.budget})"


def _bridged_statement(both: Sequence[Bridged]) -> str:
    """Of the LSTM where it is among them."""
    one = next((one for one in both if one.model == LSTM), both[0])
    parts = []
    for words, whole, long in zip(("without attention", "with it"), one.whole, one.long, strict=True):
        share = over_seeds((long / whole).tolist()) if whole.all() else UNKNOWN
        parts.append(
            f"{words} it has BLEU {interval_text(over_seeds(whole.tolist()), digits=3)}, on sentences of more than "
            f"{PIECES} pieces {interval_text(share, 'of that', 2)}"
        )
    name = model_title(one.model, article=True)
    return (
        f"{name[:1].upper()}{name[1:]} reads a sentence and another writes its translation ({_name(one.table)}): "
        f"{'; '.join(parts)}."
    )


def _bleu_of_both(one: Bridged) -> Iterator[Aside]:
    for i, words in enumerate(("without attention", "with attention")):
        whole, long = (interval_text(over_seeds(figures[i].tolist()), digits=3) for figures in (one.whole, one.long))
        half = len(one.records) // 2
        yield Aside(
            f"{model_title(one.model)}, {_name(one.table)}, {words}: {whole} and {long}",
            one.records[i * half : (i + 1) * half],
        )


# --- both directions -------------------------------------------------------------------------------------------------


@register_claim(10)
def both_directions(evidence: Evidence) -> Claim:
    """BiLSTM over LSTM on every task that may be read from both ends."""
    conditions = list(_directions(evidence.tables))
    return Claim(
        "Read in both directions, a sequence is understood better.",
        "Schuster and Paliwal 1997; Graves and Schmidhuber 2005",
        "the skill of a BiLSTM less that of an LSTM on the tasks of the board, paired over seeds and test examples, at "
        "equal width (two layers of half the width, with fewer parameters) and at equal parameters; each task at its "
        "most thorough budget",
        _directions_statement(conditions) if conditions else NOT_MEASURED,
        conditions,
    )


def _directions(tables: Sequence[BoardTable]) -> Iterator[Condition]:
    """One condition for each task and track; tasks of which both directions would see the answer have none."""
    found: dict[tuple[str, str], Condition] = {}
    for budget in THOROUGH:
        for table in public(tables):
            task, track = table.conditions.task, table.conditions.track.split(" (")[0]
            if table.conditions.budget != budget or (task, track) in found or _not_applicable(table):
                continue
            if paired := paired_skill(table, BOTH_WAYS, LSTM):
                condition = Condition.of(
                    {"task": f"{task} ({budget})", "at": table.conditions.track},
                    paired.difference or UNKNOWN,
                    "of skill",
                    (0.0, math.inf),
                    records=paired.folders,
                )
                known = condition.if_known(paired.difference is not None, f"{task}: {paired.states}")
                found[task, track] = known.if_seeds(len(paired.seeds))
    yield from (found[key] for key in sorted(found))


def _not_applicable(table: BoardTable) -> bool:
    return any(row.first.model == BOTH_WAYS and row.not_applicable for row in table.models)


def _directions_statement(conditions: Sequence[Condition]) -> str:
    """How many are better and worse, and the two ends of what was found."""
    sides = [condition.inside for condition in conditions]
    said = (
        f"A BiLSTM is better than an LSTM in {sides.count(True)} of {len(conditions)} comparisons on tasks, worse in "
        f"{sides.count(False)}; {sides.count(None)} can't tell."
    )
    known = [condition for condition in conditions if not math.isnan(condition.figure.value)]
    known.sort(key=lambda condition: condition.figure.value)
    ends = [
        f"{interval_text(end.figure, digits=2)} on {end.axes['task']} at {end.axes['at']}"
        for end in (known if len(known) < 2 else (known[0], known[-1]))
    ]
    return f"{said} The difference in skill is {' and '.join(ends)}." if ends else said
