"""Honest splits of examples that stand by themselves: groups stay whole, and every class is in every split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.errors import UserError
from seqbench.readers.archives import shown

__all__ = [
    "borders",
    "check_shares",
    "hold_out",
    "names_splits",
    "parts_by_word",
    "published_split",
    "split_groups",
    "split_groups_regress",
    "split_time",
]

Array = npt.NDArray[Any]
PARTS = ("train", "val", "test")
PLACES = ("training", "validation", "the test")
MOST_LARGE = 3  # groups that are told one by one
FILES = "the two files"  # what says the split where the test is a file
ATTEMPTS = 50
MISSED = 0.1  # so many rows, as a share of the smallest split, may stand elsewhere than sizes and classes would have it
BINS = 5  # of values, which the splits shall share as they do classes
WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
}


def check_shares(val: float, test: float) -> None:
    """Refuse shares of validation and test that leave nothing for one of the splits."""
    if not (0.0 < val < 1.0 and 0.0 < test < 1.0 and val + test < 1.0):
        raise UserError(
            f"--option val={val:g} and test={test:g} must be shares above 0 that leave something to train on."
        )


def split_groups(
    groups: Array,
    labels: Array,
    classes: Sequence[str],
    shares: tuple[float, float],
    where: Callable[[int], str],
    noun: str = "group",
    notes: list[str] | None = None,
) -> dict[str, Array]:
    """Indices of train, val and test; each group whole in one of them, each class in all of them.

    Groups are drawn class by class, in an order that is fixed for ever; a group with several classes counts for the one
    that the fewest groups hold. Where that misses the sizes or the class shares by far, as it does where one group
    holds much of the rows, groups are fitted instead, the largest first (`_fitted`).

    Args:
        groups, labels: (N,) numbers.
        shares: of validation and of test.
        where: where example i stands in the user's file.
        noun: what a group is, for the user.
        notes: gets a sentence on a group that is larger than a split.
    """
    check_shares(*shares)
    if len(classes) < 2:
        raise UserError(f"there is one class only ({classes[0]}): a classifier needs at least two.")
    unique, at = np.unique(groups, return_inverse=True)
    counts = np.bincount(at * len(classes) + labels, minlength=len(unique) * len(classes)).reshape(len(unique), -1)
    _check_held((counts > 0).sum(axis=0), labels, classes, where, noun)
    each = np.array([1 - sum(shares), *shares])
    drawn = _drawn(counts, shares)
    if drawn is None or _missed(counts, drawn, each) > MISSED * min(shares):
        fitted = _fitted(counts, each, counts > 0)
        if drawn is None or (fitted is not None and _missed(counts, fitted, each) < _missed(counts, drawn, each)):
            drawn = fitted
    if drawn is None:
        raise UserError(f"no draw of whole {_plural(noun)} has every class in every split: bring more of them.")
    _note_large(counts.sum(axis=1), drawn, shares, noun, notes)
    return {name: np.flatnonzero(drawn[at] == i) for i, name in enumerate(PARTS)}


def split_groups_regress(
    groups: Array,
    values: Array,
    shares: tuple[float, float],
    noun: str = "group",
    notes: list[str] | None = None,
) -> dict[str, Array]:
    """Indices of train, val and test where a number is predicted; each group whole in one, the largest in training.

    Args:
        groups: (N,) numbers.
        values: (N,) what is predicted; the splits get like shares of low and high ones as far as groups allow.
        shares: of validation and of test.
        noun: what a group is, for the user.
        notes: gets a sentence on a group that is larger than a split.
    """
    check_shares(*shares)
    unique, at = np.unique(groups, return_inverse=True)
    if len(unique) < len(PARTS):
        few = f"is 1 {noun}" if len(unique) == 1 else f"are {len(unique)} {_plural(noun)}"
        raise UserError(f"there {few} only: at least 3 are needed, one for each split.")
    bins = np.searchsorted(np.quantile(values, np.arange(1, BINS) / BINS), values)
    counts = np.bincount(at * BINS + bins, minlength=len(unique) * BINS).reshape(len(unique), -1)
    part_of = _fitted(counts, np.array([1 - sum(shares), *shares]), np.ones((len(unique), 1), dtype=bool))
    assert part_of is not None  # there are three groups
    _note_large(counts.sum(axis=1), part_of, shares, noun, notes)
    return {name: np.flatnonzero(part_of[at] == i) for i, name in enumerate(PARTS)}


def _drawn(counts: Array, shares: tuple[float, float]) -> Array | None:
    """(G,) the part of each group by the first draw that has every class in every part; None if none has."""
    sizes, held = counts.sum(axis=1), (counts > 0).sum(axis=0)
    rarity = np.argsort(np.argsort(held, kind="stable"), kind="stable")
    rarest = np.where(counts > 0, rarity, len(held)).min(axis=1)
    for attempt in range(ATTEMPTS):  # where groups hold several classes, a draw may leave one out
        rng = np.random.default_rng(attempt)
        part_of = np.zeros(len(sizes), dtype=np.int64)
        for label in range(len(held)):
            mine = np.flatnonzero(rarest == rarity[label])
            part_of[mine] = _deal(sizes[mine], shares, rng)
        if all((counts[part_of == part] > 0).any(axis=0).all() for part in range(len(PARTS))):
            return part_of
    return None


def _missed(counts: Array, part_of: Array, each: Array) -> float:
    """The share of rows that stand in another part than sizes and class shares would have it."""
    totals = counts.sum(axis=0)
    filled = np.stack([counts[part_of == part].sum(axis=0) for part in range(len(each))])
    return float(np.abs(filled - each[:, None] * totals).sum() / 2 / totals.sum())


def _fitted(counts: Array, each: Array, needed: Array) -> Array | None:
    """(G,) the part of each group, so that parts come close to their share of every class; None if it can't be.

    First every part gets its smallest group of each kind ``needed`` (G, R), the rarest kinds first. Then the largest
    groups go where they fit best by the sum of (filled - wanted)^2 / wanted, and groups of one row, of which there may
    be a million, fill what is left.

    Args:
        counts: (G, K) rows of each class in each group.
        each: (P,) share of each part, the training's first.
    """
    rng = np.random.default_rng(0)
    sizes = counts.sum(axis=1)
    counts = np.column_stack([counts, sizes])  # classes that each miss a little must not miss it all the same way
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    wanted = each[:, None] * counts.sum(axis=0)
    part_of = np.full(len(sizes), -1)
    for kind in np.argsort(needed.sum(axis=0), kind="stable"):
        mine = order[needed[order, kind]]
        for part in range(len(each) - 1, -1, -1):
            free = mine[part_of[mine] < 0]
            if not (part_of[mine] == part).any():
                if not len(free):
                    return None
                part_of[free[-1] if part else free[0]] = part
    filled = np.stack([counts[part_of == part].sum(axis=0) for part in range(len(each))]).astype(float)
    weight = 1 / np.maximum(wanted, 1e-9)
    for group in order[(part_of[order] < 0) & (sizes[order] > 1)]:
        added = counts[group]
        part = int(((added * (added + 2 * (filled - wanted))) * weight).sum(axis=1).argmin())
        part_of[group] = part
        filled[part] += added
    for label in range(counts.shape[1] - 1):
        single = order[(part_of[order] < 0) & (counts[order, label] == 1)]
        lacks = np.maximum(wanted[:, label] - filled[:, label], 0)
        ends = np.round(np.cumsum(lacks) / max(lacks.sum(), 1e-9) * len(single)).astype(int)
        part_of[single] = np.searchsorted(ends, np.arange(len(single)), side="right").clip(max=len(each) - 1)
    return part_of


def _plural(noun: str) -> str:
    """Of "value of site": "values of site"."""
    first, *rest = noun.split(" ", 1)
    return " ".join([f"{first}s", *rest])


def _note_large(sizes: Array, part_of: Array, shares: tuple[float, float], noun: str, notes: list[str] | None) -> None:
    """Tell of groups that are larger than a split, and where each stands."""
    total, order = sizes.sum(), np.argsort(-sizes, kind="stable")
    large = [int(group) for group in order[: MOST_LARGE + 1] if sizes[group] > min(shares) * total]
    if notes is None or not large or len(sizes) <= len(PARTS):
        return
    each = [(f"{sizes[group] / total:.1%}", PLACES[part_of[group]]) for group in large]
    if len(large) == 1:
        share, place = each[0]
        notes.append(f"the largest {noun} holds {share} of the rows, more than a split should: it is whole in {place}.")
        return
    listed = ", ".join(f"{share} whole in {place}" for share, place in each[:MOST_LARGE])
    more = ", ..." * (len(large) > MOST_LARGE)
    notes.append(f"the largest {_plural(noun)} hold more of the rows than a split should: {listed}{more}.")


def _check_held(held: Array, labels: Array, classes: Sequence[str], where: Callable[[int], str], noun: str) -> None:
    """Refuse classes that fewer groups hold than there are splits."""
    for label, name in enumerate(classes):
        if held[label] < len(PARTS):
            seen = np.flatnonzero(labels == label)
            raise UserError(
                f"class {name!r} is in {held[label]} {noun if held[label] == 1 else _plural(noun)} only"
                f"{f' ({where(int(seen[0]))})' if len(seen) else ''}: at least 3 are needed, one for each split."
            )


def _deal(sizes: Array, shares: tuple[float, float], rng: np.random.Generator) -> Array:
    """Which part each group goes to: in random order to val and test until they are full, the rest to train."""
    order = rng.permutation(len(sizes))
    total = sizes.sum()
    part_of = np.zeros(len(sizes), dtype=np.int64)
    taken = 0
    for i, share in ((2, shares[1]), (1, shares[0])):
        filled = 0
        while taken < len(order) - i and (filled == 0 or filled < share * total - sizes[order[taken]] / 2):
            part_of[order[taken]] = i
            filled += sizes[order[taken]]
            taken += 1
    return part_of


def hold_out(groups: Array, n_train: int, val: float) -> tuple[dict[str, Array], str]:
    """Splits where a publisher fixed the test: the first ``n_train`` examples train and validate, the rest tests.

    Groups of the test leave training; of the other groups a share ``val`` validates.
    """
    training = np.arange(n_train)
    shared = np.isin(groups[:n_train], groups[n_train:])
    kept = training[~shared]
    unique = np.unique(groups[kept])
    chosen = np.random.default_rng(0).permutation(unique)[: max(1, round(val * len(unique)))]
    held = np.isin(groups[kept], chosen)
    parts = {"train": kept[~held], "val": kept[held], "test": np.arange(n_train, len(groups))}
    return parts, f"{int(shared.sum()):,} training examples are left out as near-duplicates of test examples."


def published_split(
    values: Sequence[str],
    said_by: str,
    groups: Array,
    val: float,
    classes: Array | None = None,
    where: Callable[[int], str] = lambda i: f"row {i + 1}",
) -> tuple[dict[str, Array], list[str]]:
    """Indices of train, val and test as a publisher fixed them, and sentences about them.

    The test is whole. Training and validation lose what shares a group with it, training what shares one with
    validation. Where no row validates, a share ``val`` of the training rows does, by whole groups.

    Args:
        values: the word of each of N rows: train, val, valid, validation, dev or test, in any case.
        said_by: what says so, for the user: "column 'split'".
        groups: (N,) of near-duplicates or of what the user says belongs together.
        classes: (N,) class numbers, of which validation gets its share; None where there are none.
        where: where row i stands in the user's file.

    Raises:
        UserError: another word, no row to train on or to test, or none that is not like those of the test.
    """
    part_of = parts_by_word(values, said_by, where)
    in_test = np.isin(groups, groups[part_of == 2])
    if in_test[part_of == 0].all():
        raise UserError(
            f"by {said_by} every training row is in the test{' file' if 'file' in said_by else ''}, too, as it stands, "
            "as a near-duplicate or by its group: none is left to train on."
        )
    if not (part_of == 1).any():
        free = np.flatnonzero((part_of == 0) & ~in_test)
        part_of[free[_held(groups[free], None if classes is None else classes[free], val)]] = 1
        notes = [f"the split is that of {said_by}; for validation {val:.0%} of the training rows are held out."]
    else:
        notes = [f"the split is that of {said_by}."]
    in_val = np.isin(groups, groups[(part_of == 1) & ~in_test])
    kept = {
        "train": np.flatnonzero((part_of == 0) & ~in_test & ~in_val),
        "val": np.flatnonzero((part_of == 1) & ~in_test),
        "test": np.flatnonzero(part_of == 2),
    }
    gone = {part: int((part_of == i).sum()) - len(kept[part]) for i, part in enumerate(("train", "val"))}
    if any(gone.values()):
        notes.append(
            f"{gone['train']:,} training and {gone['val']:,} validation rows are left out because they share a group, "
            "or are near-duplicates, with rows that test (or, of training, validate)."
        )
    for part, rows in kept.items():
        if not len(rows):
            raise UserError(
                f"by {said_by} no row is left to {'train' if part == 'train' else 'validate'} on: all share a group "
                "with rows of another split, or are near-duplicates of them."
            )
    return kept, notes


def names_splits(values: Sequence[str]) -> bool:
    """Whether every value is a word for a split, and there are rows to train on and to test."""
    found = {value.strip().lower() for value in values}
    known = {word: part for part in PARTS for word in WORDS[part]}
    return found <= known.keys() and {"train", "test"} <= {known[word] for word in found}


def parts_by_word(values: Sequence[str], said_by: str, where: Callable[[int], str]) -> Array:
    """(N,) 0, 1 or 2 for train, val and test."""
    numbers = {word: i for i, part in enumerate(PARTS) for word in WORDS[part]}
    part_of = np.array([numbers.get(value.strip().lower(), -1) for value in values])
    unknown = {values[i].strip(): where(int(i)) for i in np.flatnonzero(part_of < 0)[::-1]}
    if unknown:
        named = ", ".join(f"{shown(value, 40)} ({place})" for value, place in list(unknown.items())[::-1][:5])
        raise UserError(
            f"{said_by} holds words that name no split: {named}{' ...' if len(unknown) > 5 else ''}; "
            "write train, val and test."
        )
    for i in (0, 2):
        if not (part_of == i).any():
            if said_by == FILES:
                raise UserError(
                    f"no row of {'the file of --test' if i else 'the first file'} is left, as all were left out: there "
                    f"is nothing to {'test' if i else 'train'} on."
                )
            raise UserError(f"{said_by} has no row {PARTS[i]!r}: it must name rows to train on and to test.")
    return part_of


def _held(groups: Array, classes: Array | None, val: float) -> Array:
    """Indices of about a share ``val`` of the rows, whole groups, with its share of every class."""
    if not 0 < val < 1:
        raise UserError(f"--option val={val:g} must be a share above 0 and below 1.")
    unique, at = np.unique(groups, return_inverse=True)
    if len(unique) < 2:
        raise UserError("the training rows are one group or near-duplicates: none can be held out to validate.")
    labels = np.zeros(len(groups), dtype=np.int64) if classes is None else np.unique(classes, return_inverse=True)[1]
    size = int(labels.max()) + 1
    counts = np.bincount(at * size + labels, minlength=len(unique) * size).reshape(len(unique), -1)
    part_of = _fitted(counts, np.array([1 - val, val]), np.ones((len(unique), 1), dtype=bool))
    assert part_of is not None  # there are two groups
    return np.flatnonzero(part_of[at] == 1)


def borders(n: int, shares: tuple[float, float]) -> tuple[int, int, int, int]:
    """Where train, val and test begin and end among ``n`` examples in time order."""
    check_shares(*shares)
    return 0, round(n * (1 - shares[0] - shares[1])), round(n * (1 - shares[1])), n


def split_time(times: Array, shares: tuple[float, float]) -> dict[str, Array]:
    """Indices of train, val and test in order of time; equal times are never parted."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    cuts = [int(np.searchsorted(ordered, ordered[min(at, len(order) - 1)])) for at in borders(len(order), shares)[1:3]]
    parts = {name: order[a:b] for name, (a, b) in zip(PARTS, itertools.pairwise((0, *cuts, len(order))), strict=True)}
    if not all(len(rows) for rows in parts.values()):
        raise UserError("there are too few different times for three splits in time order: name no column of times.")
    return parts
