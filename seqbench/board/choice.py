"""Who stands in a table: each model at the learning rate that validation chose, and which rates were tried. No torch.

As `seqbench.experiment` chooses for a grid: by the validation figure at seed 0; the test is never asked. A rate whose seed 0
failed loses, ties go to the lower rate, and the other rates are trials whose cost counts as tuning.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqbench.board.collect import Cell, Group, ModelId
from seqbench.experiment import TRIAL_SEED

__all__ = ["Entrant", "entrants", "expected_seeds"]


@dataclass(frozen=True)
class Entrant:
    """A model at its learning rate: cells by seed. ``trials`` has every rate tried, with its cell at seed 0 if any.

    ``others`` is the number of cells that are neither: further seeds at rates that were not taken.
    """

    model: ModelId
    rate: float
    cells: dict[int, Cell]
    trials: dict[float, Cell | None]
    others: int

    @property
    def not_applicable(self) -> str | None:
        """Why the model can't honestly be scored, if it can't."""
        reasons = [cell.reason or "no reason given" for cell in self.cells.values() if cell.status == "not_applicable"]
        return reasons[0] if len(reasons) == len(self.cells) else None

    def complete(self, seeds: tuple[int, ...]) -> bool:
        """Whether every one of ``seeds`` has a figure."""
        return bool(seeds) and all(seed in self.cells and self.cells[seed].status == "ok" for seed in seeds)


def entrants(group: Group) -> list[Entrant]:
    """One for each model of the group, sorted by model."""
    models: dict[ModelId, dict[float, dict[int, Cell]]] = {}
    for cell in group.cells.values():
        models.setdefault(cell.model, {}).setdefault(cell.rate, {})[cell.seed] = cell
    return [_entrant(group, model, rates) for model, rates in sorted(models.items())]


def expected_seeds(found: list[Entrant]) -> tuple[int, ...]:
    """The seeds that every model should have: those that any has at its learning rate."""
    return tuple(sorted({seed for entrant in found if not entrant.not_applicable for seed in entrant.cells}))


def _entrant(group: Group, model: ModelId, rates: dict[float, dict[int, Cell]]) -> Entrant:
    sign = -1.0 if group.primary and group.primary.direction == "higher" else 1.0

    def preference(rate: float) -> tuple[bool, float, int, float]:
        tried = rates[rate].get(TRIAL_SEED)
        if tried is None or tried.val is None:
            return True, 0.0, -len(rates[rate]), rate
        return False, sign * tried.val, 0, rate

    best = min(rates, key=preference)
    cells = dict(sorted(rates[best].items()))
    trials = {rate: rates[rate].get(TRIAL_SEED) for rate in sorted(rates)}
    others = sum(seed != TRIAL_SEED for rate in rates if rate != best for seed in rates[rate])
    return Entrant(model, best, cells, trials, others)
