"""All eight claims from what was measured, and the conditions that stand above them. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seqbench.claims.claim import Asides, Claim
from seqbench.claims.context import lstm_context
from seqbench.claims.cost import gru_lighter, lstm_fourfold
from seqbench.claims.formula import lstm_parameters
from seqbench.claims.gradient import gradients_vanish
from seqbench.claims.memory import attention_lifts, rnn_memory
from seqbench.claims.names import ATTENTION, LSTM, RNN, TEXT
from seqbench.claims.parallel import recurrence_serial
from seqbench.claims.price import attention_price, carried
from seqbench.claims.published import HEADING, published_context, published_lags
from seqbench.probes import Case, Found
from seqbench.probes.record import ProbeRecord
from seqbench.report.text import listed

__all__ = ["Measured", "all_claims", "conditions_of"]


NEEDS: dict[int, tuple[tuple[str, tuple[str, ...]], ...]] = {  # claim: probes, and the models whose cases it rests on
    1: (("memory", (RNN,)),),
    2: (("context", (LSTM,)),),
    3: (("cost", ()),),
    5: (("gradient", ()),),
    6: (("parallel", ()),),
    7: (("cost", ()),),
    8: (("memory", (LSTM, ATTENTION)), ("cost", ())),
}


@dataclass(frozen=True)
class Measured:
    """Measured cases by probe, and the cases that were planned and have no result."""

    found: Mapping[str, Sequence[Found]]
    missing: Sequence[Case] = ()

    def of(self, probe: str) -> Sequence[Found]:
        """Those of one probe."""
        return self.found.get(probe, [])


def all_claims(measured: Measured, board: Path) -> list[Claim]:
    """In order; what was not measured says so."""
    memory, cost = measured.of("memory"), measured.of("cost")
    texts = [one for one in measured.of("context") if one.result["task"] == TEXT]
    rnn, lstm = rnn_memory(memory), lstm_context(texts, memory)
    claims = [
        replace(rnn, beside=[*rnn.beside, Asides(HEADING, published_lags(memory))]),
        replace(lstm, beside=[*lstm.beside, Asides(HEADING, published_context(texts))]),
        lstm_fourfold(cost),
        lstm_parameters(),
        gradients_vanish(measured.of("gradient")),
        recurrence_serial(measured.of("parallel")),
        gru_lighter(cost, board),
        attention_lifts(memory, attention_price(cost), carried(cost)),
    ]
    return [_with_lack(claim, measured) for claim in claims]


def _with_lack(claim: Claim, measured: Measured) -> Claim:
    lacks = [claim.lacks] if claim.lacks else []
    for probe, models in NEEDS.get(claim.number, ()):
        cases = [it for it in measured.missing if it.probe == probe]
        count = sum(1 for it in cases if not models or set(models) & set(it.models))
        lacks += [f"{count} case{'s' if count > 1 else ''} of the {probe} probe without a result"] if count else []
    return replace(claim, lacks="; ".join(lacks))


def conditions_of(records: Sequence[ProbeRecord], planned: int, budget: str) -> list[str]:
    """Budget, machines, versions, and what is missing."""
    where = Counter(
        (it.environment.device_name, it.environment.threads, it.environment.torch, it.environment.seqbench)
        for it in records
    )
    lines = [f"budget {budget}: {len(records)} of {planned} cases have a record"]
    lines += [
        f"{count} on {device}, {threads} CPU thread{'s' if threads > 1 else ''}, torch {torch}, seqbench {version}"
        for (device, threads, torch, version), count in sorted(where.items())
    ]
    states = Counter(it.status for it in records if it.status != "ok")
    if states:
        words = listed([f"{count} {state.replace('_', ' ')}" for state, count in sorted(states.items())])
        lines.append(f"of these {words}")
    return lines
