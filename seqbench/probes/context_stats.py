"""Effective context and its interval, from the results of several seeds. Pure functions; no torch.

Seeds and stretches of text are crossed: every seed is scored on the same targets. So seeds and blocks of text are drawn
apart from each other, 2,000 times each; the variances of the two bootstraps, each with its n / (n - 1), add up to that
of `seqbench.stats.Estimate`, and the interval is its Student's t. The 2.5% and 97.5% points of drawing both at once
(the pigeonhole bootstrap; Owen 2007) cover .83 where five seeds differ and the blocks hardly do; these cover .95. What
is a length is taken as its logarithm. One seed tells nothing of others: its intervals are over text only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.stats import Estimate, Interval

__all__ = [
    "Curve",
    "carried_excess",
    "effective_context",
    "excess_curve",
    "least_context",
    "perturbation_excess",
    "reference_distance",
    "still_falls",
]

Array = npt.NDArray[Any]
Results = Sequence[Mapping[str, Any]]
DRAWS = 2000
TOLERANCES = (0.005, 0.01, 0.02)


class Curve(NamedTuple):
    """Excess loss over the best k, as a share of its loss: each of ``ks`` with its interval."""

    ks: list[int]
    excess: list[Interval]


def effective_context(results: Results, tolerance: float = 0.01, draws: int = DRAWS) -> Interval:
    """Characters beyond which a model gains no more than ``tolerance`` of its loss, with its 95% interval.

    The least k such that the loss is at most ``tolerance`` above the reference at k and all longer ones, linear in
    log k between the k that were measured. The reference is the least loss at any k, usually the longest k's. A model
    that gets worse on contexts longer than it can use (`reference_distance`) is measured up to the longest k at which
    it is within ``tolerance`` of its best.

    Where the loss still falls by more than that at the longest k, or the interval reaches it, the upper limit is
    infinite: nothing says that a longer context would not help.

    Args:
        results: of the same model, task and options, one a seed (the kind `generate`).
        tolerance: of the excess loss, .01 for 1%.
        draws: of the bootstrap.

    Raises:
        ValueError: results that differ in k or in blocks.
    """
    ks, sums, counts = _stacked(results)
    log = _interval(lambda losses: np.log(least_context(losses, ks, tolerance)), sums, counts, draws)
    value, low, high = (min(max(math.exp(end), ks[0]), ks[-1]) for end in log)
    return Interval(value, low, math.inf if still_falls(results, tolerance) or high >= ks[-1] else high)


def still_falls(results: Results, tolerance: float = 0.01) -> bool:
    """Whether the last step to the longest k still gains more than ``tolerance``: `effective_context` is a lower bound.

    Not so where the loss was least before: there a longer context does harm.
    """
    _, sums, counts = _stacked(results)
    losses = sums.sum(axis=(0, 1)) / counts.sum()
    return len(losses) < 2 or bool(losses.argmin() == len(losses) - 1 and losses[-2] > (1 + tolerance) * losses[-1])


def least_context(losses: Array, ks: Sequence[int], tolerance: float) -> Array:
    """(...) the least k of `effective_context` for mean losses (..., K)."""
    excess = losses / losses.min(axis=-1, keepdims=True) - 1
    places, enough = np.arange(len(ks)), excess <= tolerance
    end = np.where(enough, places, -1).max(axis=-1, keepdims=True)  # beyond it the model fails
    last = np.where(~enough & (places < end), places, -1).max(axis=-1)  # the last that is too short
    here = last.clip(min=0)[..., None]
    after = np.minimum(here + 1, len(ks) - 1)
    above, below = (np.take_along_axis(excess, i, axis=-1)[..., 0] for i in (here, after))
    log = np.log(ks)
    share = (above - tolerance) / np.where(last < 0, 1.0, above - below)
    between = log[here[..., 0]] + share * (log[after[..., 0]] - log[here[..., 0]])
    found: Array = np.where(last < 0, ks[0], np.exp(between))
    return found


def reference_distance(results: Results) -> tuple[int, float]:
    """The k of the least loss, and by what share of that the loss after the longest k is above it."""
    ks, sums, counts = _stacked(results)
    losses = sums.sum(axis=(0, 1)) / counts.sum()
    return ks[int(losses.argmin())], float(losses[-1] / losses.min() - 1)


def excess_curve(results: Results, draws: int = DRAWS) -> Curve:
    """Excess loss at every k."""
    ks, sums, counts = _stacked(results)
    # each draw against its own best k would make the excess at the best of all one-sided
    best = int((sums.sum(axis=(0, 1)) / counts.sum()).argmin())
    return Curve(ks, _intervals(lambda losses: losses / losses[..., [best]] - 1, sums, counts, draws))


def carried_excess(results: Results, draws: int = DRAWS) -> Interval | None:
    """How far the loss with carried state lies above the least loss at any k; None where no state was carried."""
    if any(result["carried"] is None for result in results):
        return None
    _, sums, counts = _stacked(results)
    carried = np.array([result["carried"]["sums"] for result in results])[:, :, None]
    together = np.concatenate([sums, carried], axis=2)
    return _interval(lambda losses: losses[..., -1] / losses[..., :-1].min(axis=-1) - 1, together, counts, draws)


def perturbation_excess(results: Results, draws: int = DRAWS) -> dict[str, dict[int, Interval]]:
    """By kind of change and k: excess loss over the intact window, permutations averaged; empty where there is none."""
    if any(not result["perturbed"] for result in results):
        return {}
    first = results[0]["perturbed"]
    (whole,) = first["intact"]
    counts = np.array(first["intact"][whole]["counts"], dtype=float)

    def sums(name: str, k: str) -> Array:
        return np.array([np.mean(result["perturbed"][name][k]["sums"], axis=0) for result in results])

    found: dict[str, dict[int, Interval]] = {}
    for name in first:
        for k in first[name] if name != "intact" else ():
            pair = np.stack([sums("intact", whole), sums(name, k)], axis=2)
            excess = _interval(lambda losses: losses[..., 1] / losses[..., 0] - 1, pair, counts, draws)
            found.setdefault(name, {})[int(k)] = excess
    return found


def _stacked(results: Results) -> tuple[list[int], Array, Array]:
    """The common k, (S, G, K) sums of nats and the (G,) counts that all seeds share."""
    if not results:
        raise ValueError("no results")
    first = results[0]
    for other in results[1:]:
        if other["ks"] != first["ks"] or other["counts"] != first["counts"]:
            raise ValueError("results with other distances or other blocks can't be put together")
    return list(first["ks"]), np.array([result["sums"] for result in results]), np.array(first["counts"], dtype=float)


def _interval(statistic: Callable[[Array], Array], sums: Array, counts: Array, draws: int) -> Interval:
    return _intervals(lambda losses: statistic(losses)[..., None], sums, counts, draws)[0]


def _intervals(statistic: Callable[[Array], Array], sums: Array, counts: Array, draws: int) -> list[Interval]:
    """Of each entry of ``statistic``, which maps mean losses (..., K) to (..., M)."""
    n_seeds, n_blocks, _ = sums.shape
    rng = np.random.default_rng(0)
    whole = sums.sum(axis=(0, 1)) / (n_seeds * counts.sum())
    seeds = _drawn(rng, n_seeds, draws) @ sums.sum(axis=1) / (n_seeds * counts.sum())
    drawn = _drawn(rng, n_blocks, draws)
    blocks = drawn @ sums.sum(axis=0) / (n_seeds * drawn @ counts)[:, None]
    values = statistic(whole)
    of_seeds, of_blocks = (
        np.var(statistic(losses), axis=0, ddof=1) * n / max(1, n - 1)
        for losses, n in ((seeds, n_seeds), (blocks, n_blocks))
    )
    return [
        _estimate(float(value), float(a), float(b), n_seeds, n_blocks)
        for value, a, b in zip(values, of_seeds, of_blocks, strict=True)
    ]


def _drawn(rng: np.random.Generator, n: int, draws: int) -> Array:
    """(draws, n) how often each of n is drawn of n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)


def _estimate(value: float, of_seeds: float, of_blocks: float, n_seeds: int, n_blocks: int) -> Interval:
    total = of_seeds / max(1, n_seeds - 1) + of_blocks / max(1, n_blocks - 1)
    if total < 1e-24:  # alike everywhere: what is left is rounding
        return Interval(value, value, value)
    return Estimate(value, of_seeds, of_blocks, (of_seeds + of_blocks) / total).interval()
