"""The learning rate of a model on a task: of the same few values for all, the best on validation at seed 0."""

from __future__ import annotations

from collections.abc import Iterable

from seqbench.record import Record

__all__ = ["RATES", "TRIAL_SEED", "best_rate"]

RATES = (1e-3, 3e-3, 1e-2)
TRIAL_SEED = 0


def best_rate(records: Iterable[Record]) -> float | None:
    """The learning rate of the best of one model's ``records`` at seed 0 by the primary metric on validation.

    The test split has no say. A rate whose run failed is not chosen, of equally good ones the lowest is; None if there
    is no run at seed 0 that ended well.
    """
    found = []
    for record in records:
        if record.seed == TRIAL_SEED and record.status == "ok" and record.primary is not None:
            value = record.metrics["val"][record.primary.name]
            worse = value if record.primary.direction == "lower" else -value
            found.append((worse, float(record.config["learning_rate"])))
    return min(found)[1] if found else None
