"""What training took, compared only within one device name. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from seqbench.board.choice import Entrant
from seqbench.board.collect import Cell

__all__ = ["Basis", "Costs", "basis_of", "costs_of"]


@dataclass(frozen=True)
class Basis:
    """What a table's costs are: of which device, in which seconds, and how many runs had to be left out.

    ``cpu``: seconds that the process computed for, which other work on the machine lengthens far less than the
    wall-clock; only where every run has them and used one thread.
    """

    device_name: str
    cpu: bool
    others: int  # runs on other devices
    interrupted: int

    def seconds(self, cell: Cell) -> float | None:
        """Training seconds of one run, if it counts here."""
        if cell.cost is None or cell.environment.device_name != self.device_name:
            return None
        return cell.cost.cpu_seconds if self.cpu else cell.cost.train_seconds


@dataclass(frozen=True)
class Costs:
    """Of one model: mean seconds a run, tokens a second over all runs, the largest peak of memory, and its tuning.

    ``tuning`` is the seconds of the other learning rates tried; None where none was tried here. It is a lower bound
    unless ``tuning_known``: failed trials leave no cost, and those on another device don't count.
    """

    seconds: float | None
    tokens_per_second: float | None
    memory: int | None
    tuning: float | None
    tuning_known: bool


def basis_of(found: Iterable[Entrant]) -> Basis | None:
    """The device that most of the chosen runs used; None where none has a cost."""
    found = list(found)
    chosen = [cell for entrant in found for cell in entrant.cells.values() if cell.cost is not None]
    if not chosen:
        return None
    names = Counter(cell.environment.device_name for cell in chosen)
    name = min(names, key=lambda one: (-names[one], one))
    tried = [
        cell for entrant in found for cell in entrant.trials.values() if cell is not None and cell.cost is not None
    ]
    here = [cell for cell in {id(cell): cell for cell in (*chosen, *tried)}.values() if _on(cell, name)]
    cpu = all(
        cell.cost is not None
        and cell.cost.cpu_seconds is not None
        and (cell.environment.device, cell.environment.threads) == ("cpu", 1)
        for cell in here
    )
    interrupted = sum(cell.cost is not None and cell.cost.interrupted for cell in here)
    return Basis(name, cpu, len(chosen) - names[name], interrupted)


def costs_of(entrant: Entrant, basis: Basis | None) -> Costs:
    """The model's costs on the table's device."""
    if basis is None:
        return Costs(None, None, None, None, True)
    runs = [
        (seconds, cell.cost)
        for cell in entrant.cells.values()
        if (seconds := basis.seconds(cell)) is not None and cell.cost is not None
    ]
    total = sum(seconds for seconds, _ in runs)
    tokens = sum(cost.tokens_per_second * cost.train_seconds for _, cost in runs)
    others = [cell for rate, cell in entrant.trials.items() if rate != entrant.rate]
    tuning = [seconds for cell in others if cell is not None and (seconds := basis.seconds(cell)) is not None]
    return Costs(
        seconds=total / len(runs) if runs else None,
        tokens_per_second=tokens / total if total > 0 else None,
        memory=max((cost.peak_memory_bytes for _, cost in runs), default=None),
        tuning=sum(tuning) if others else None,
        tuning_known=len(tuning) == len(others),
    )


def _on(cell: Cell, device_name: str) -> bool:
    return cell.environment.device_name == device_name
