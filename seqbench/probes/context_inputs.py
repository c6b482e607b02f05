"""How much of its input a model of sequences uses: trained on shorter ones, and tested with far parts of others.

A longer input leaves fewer places for windows in a series, so every length is scored on those test examples that the
longest has too. Of the model trained at the longest length, the inputs farther than k from the anchor are replaced by
those of another test example at the same places: that keeps what such inputs look like, which zeros would not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import BASELINES
from seqbench.data.splits import Rows, Segments, Split, Truth, Windows
from seqbench.errors import NotApplicable
from seqbench.experiment import Plan
from seqbench.models.backbone import SequenceModel, count_parameters
from seqbench.prepare import prepare
from seqbench.probes import Case, Told
from seqbench.probes.context_fit import trained
from seqbench.training import predict

__all__ = ["common_examples", "kept_steps", "mask_distances", "measure_inputs", "swapped"]

Array = npt.NDArray[Any]
PERMUTATIONS = 3
SEED = 5  # of the permutations, which are the same for every model and seed
PART = 4096  # examples whose inputs are put together at once


def measure_inputs(case: Case, told: Told) -> dict[str, Any]:
    """Train at one length and score the common test examples; at the longest length also with far inputs swapped."""
    about = case.options
    if "refused" in about:
        raise NotApplicable(about["refused"]["sentence"])
    chosen, data, model = trained(case, told)
    spec, config = chosen.prepared.spec, chosen.config
    kept = _common(chosen, about["longest"])
    constants = spec.calibrated(predict(model, data.val, config), data.val.truth())
    truth = data.test.truth().with_constants(constants)
    predictions = predict(model, data.test, config)
    baseline = BASELINES.get(spec.reference).fit(data.train, data.val, data)(data.test)
    of_all = np.arange(len(data.test)) if kept is None else kept
    masks, why = None, None
    if about["length"] == about["longest"]:
        if data.test.lengths is None:
            told.say("testing with far inputs of other examples")
            masks = _masked(chosen, model, truth, about["anchor"])
        else:
            why = "inputs vary in length, so they have no common places to swap"
    return {
        **{"task": spec.name, "kind": spec.kind, "what": about["what"], "length": about["length"]},
        **{"metric": spec.primary.name, "unit": spec.primary.unit, "direction": spec.primary.direction},
        **_scores(chosen, predictions, truth, of_all),
        "reference": spec.reference,
        "reference_value": _rounded(spec.score(baseline[of_all], truth[of_all])[spec.primary.name]),
        "examples": len(of_all),
        "common": kept is not None,
        "anchor": about["anchor"],
        "masks": masks,
        "masks_why": why,
        "params": count_parameters(model),
        "width": about["hidden"],
    }


def _common(chosen: Plan, longest: int) -> Array | None:
    options = {**chosen.prepared.options, "sequence_length": longest}
    return common_examples(
        chosen.prepared.data.test, prepare(chosen.config.task, options, chosen.prepared.source).data.test
    )


def common_examples(test: Split, other: Split) -> Array | None:
    """Indices of the examples of ``test`` that ``other``, made with longer inputs, has too; None if it can't be told.

    Windows and segments are the same example where they end at the same step of the same series and have the same
    target; other examples by their number, if they all have the same targets.
    """
    mine, theirs = test.truth().targets, other.truth().targets
    if isinstance(test, Windows | Segments) and isinstance(other, Windows | Segments):
        ends, their_ends = test.starts + test.lookback, other.starts + other.lookback
        kept = np.flatnonzero(np.isin(ends, their_ends))
        where = {int(end): i for i, end in enumerate(their_ends)}
        same = [where[int(end)] for end in ends[kept]]
        return kept if len(kept) == len(other) and np.array_equal(mine[kept], theirs[same]) else None
    return np.arange(len(test)) if np.array_equal(mine, theirs) else None


def mask_distances(length: int, anchor: str) -> list[int]:
    """A few k: shares of what can be kept on one side of the anchor."""
    reach = length if anchor == "end" else length // 2
    return sorted({max(1, round(reach * share)) for share in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)} - {reach})


def kept_steps(length: int, k: int, anchor: str) -> Array:
    """(T,) whether a step is within k of the anchor: the last k steps, or k on each side of the centre."""
    steps = np.arange(length)
    if anchor == "end":
        return steps >= length - k
    return np.abs(2 * steps - (length - 1)) < 2 * k


def swapped(inputs: Array, others: Array, k: int, anchor: str) -> Array:
    """Inputs (B, T) or (B, T, D) with what is farther than ``k`` from the anchor taken from ``others``."""
    near = kept_steps(inputs.shape[1], k, anchor)
    return np.where(near.reshape(1, -1, *[1] * (inputs.ndim - 2)), inputs, others)


def _masked(chosen: Plan, model: SequenceModel, truth: Truth, anchor: str) -> list[dict[str, Any]]:
    """For each k the metric, once a permutation, and without each group, permutations averaged."""
    test = chosen.prepared.data.test
    n, found = len(test), []
    for k in mask_distances(test.sequence_length, anchor):
        scores = []
        for i in range(PERMUTATIONS):
            order = np.random.default_rng([SEED, k, i]).permutation(n)
            other = np.empty(n, dtype=np.int64)
            other[order] = np.roll(order, 1)  # one cycle: nobody is its own other
            parts = []
            for j in range(0, n, PART):
                here = np.arange(j, min(n, j + PART))
                inputs = swapped(np.asarray(test[here].inputs), np.asarray(test[other[here]].inputs), k, anchor)
                rows = Rows(inputs, truth.targets[here], truth.groups[here])
                parts.append(predict(model, rows, chosen.config))
            scores.append(_scores(chosen, np.concatenate(parts), truth, np.arange(n)))
        left_out = np.mean([one["left_out"] for one in scores], axis=0)
        found.append(
            {"k": k, "values": [one["value"] for one in scores], "left_out": [_rounded(value) for value in left_out]}
        )
    return found


def _scores(chosen: Plan, predictions: Array, truth: Truth, kept: Array) -> dict[str, Any]:
    """The primary metric over the examples ``kept``, and without each of their groups."""
    spec, predictions, truth = chosen.prepared.spec, predictions[kept], truth[kept]
    left_out = spec.leave_one_out(predictions, truth)
    value = spec.score(predictions, truth)[spec.primary.name]
    return {"value": _rounded(value), "left_out": [_rounded(one) for one in left_out]}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
