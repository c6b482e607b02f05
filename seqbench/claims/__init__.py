"""The ledger of claims: what texts say of recurrent networks, what was measured, and the verdict.

A claim is a function from `Evidence` to a `rules.Claim`, registered with `register_claim` under its number and with
what it needs. Those that come with seqbench are found by listing this package; a user's file adds its own by
``--plugin``. A verdict follows from intervals by rule (`rules`); `ledger` measures what is needed and writes the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqbench.board import BoardTable
from seqbench.claims.rules import Claim
from seqbench.probes import Measured, ProbeSpec
from seqbench.registry import Registry

__all__ = ["CLAIMS", "NEEDS", "Evidence", "all_claims", "public", "register_claim"]


@dataclass(frozen=True)
class Evidence:
    """What the claims rest on.

    Attributes:
        measured: measurements of any probe.
        missing: those that were planned and have no result.
        tables: the usual ones of the board, see `ledger.read_board`.
        variants: its other tables, of which each says in what its conditions differ.
    """

    measured: Sequence[Measured[Any]] = ()
    missing: Sequence[ProbeSpec] = ()
    tables: Sequence[BoardTable] = ()
    variants: Sequence[BoardTable] = ()

    def of(self, probe: str) -> list[Measured[Any]]:
        """The measurements of one probe."""
        return [one for one in self.measured if one.spec.probe == probe]

    def lacks(self, probe: str, models: Sequence[str]) -> str:
        """How many measurements that ``models`` take part in are missing, in words; without models those of all."""
        specs = [spec for spec in self.missing if spec.probe == probe]
        count = sum(not models or not set(models).isdisjoint(spec.models) for spec in specs)
        return f"{count} measurement{'s' if count > 1 else ''} of the {probe} probe" if count else ""


def public(tables: Iterable[BoardTable]) -> list[BoardTable]:
    """Those of published data, the one with the most runs first: a few runs at another width decide nothing."""
    known = [table for table in tables if table.conditions.source != "path"]
    return sorted(known, key=lambda table: -table.n_results)


Judged = Callable[[Evidence], Claim]
NEEDS: dict[int, Mapping[str, Sequence[str]]] = {}  # by number: probe to models, all of them where none is named
CLAIMS: Registry[Judged] = Registry("claim", "seqbench.claims", group="seqbench.claims")


def register_claim(number: int, *, needs: Mapping[str, Sequence[str]] | None = None) -> Callable[[Judged], Judged]:
    """Register the decorated function as claim ``number``.

    Args:
        number: its place in the ledger.
        needs: probe to models; without one of their measurements that was planned, there is no verdict. No models: any.
    """

    def decorate(judged: Judged) -> Judged:
        def numbered(evidence: Evidence) -> Claim:
            claim = judged(evidence)
            lacks = [claim.lacks, *(evidence.lacks(probe, models) for probe, models in (needs or {}).items())]
            return replace(claim, number=number, lacks="; ".join(filter(None, lacks)))

        NEEDS[number] = needs or {}
        return CLAIMS.add(str(number), numbered, module=judged.__module__)

    return decorate


def all_claims(evidence: Evidence) -> list[Claim]:
    """Every registered claim, by number; what was not measured says so."""
    return sorted((entry.value(evidence) for entry in CLAIMS.entries()), key=lambda claim: claim.number)
