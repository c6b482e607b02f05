"""The command `claims`: measure what the ledger needs, and write it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from seqbench.claims.claim import Claim
from seqbench.claims.cost import MARGIN
from seqbench.claims.ledger import render_json, render_markdown
from seqbench.claims.names import GRU, LSTM
from seqbench.claims.page import Measured, all_claims, conditions_of
from seqbench.claims.plan import Size, plan
from seqbench.claims.plots import draw_claims
from seqbench.claims.skills import skill_conditions
from seqbench.device import resolve_device
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.jobs.record import FINE
from seqbench.probe_command import Done, run_cases
from seqbench.probe_options import ProbeRun
from seqbench.probes import Found, Request, get_probe
from seqbench.probes.record import ProbeStore
from seqbench.probes.run import CaseWork

__all__ = ["run_claims", "write_ledger"]


def run_claims(
    budget: Size,
    out: Path,
    board: Path,
    jobs: int,
    device: str,
    plugins: Sequence[Path] = (),
    *,
    report: bool = False,
    dry_run: bool = False,
) -> int:
    """Run what has no record yet and write CLAIMS.md, claims.json and plots into ``out``; 1 if a case failed."""
    store = ProbeStore(out)
    kind = resolve_device(Request(device=device)).type  # type: ignore[arg-type]
    works = [CaseWork.of(case, store) for case in plan(budget, kind)]
    if dry_run:
        return _show_plan(works, store)
    if report:
        done = [(work, *found) for work in works if (found := store.find(work.folder, work.key))]
        if not done:
            raise UserError(
                f"{out} holds none of the {len(works)} records of budget {budget}: run it without --report."
            )
    else:
        skill_conditions(board, GRU, LSTM, MARGIN)  # a board that can't be read is found before hours of work
        done = run_cases(works, store, ProbeRun(out=out, jobs=jobs), plugins)
    for path in write_ledger(works, done, budget, out, board):
        print(path)
    failed = [(work, record) for work, record, _ in done if record.status not in FINE]
    for work, record in failed:
        print(f"failed  {work.name}: {record.status}: {record.reason}")
    return 1 if failed else 0


def write_ledger(works: Sequence[CaseWork], done: Done, budget: str, out: Path, board: Path) -> list[Path]:
    """The page, the data and the pictures, from the records ``done`` of what was planned; returns their paths."""
    found: dict[str, list[Found]] = {}
    for _, record, folder in done:
        if record.result is not None:
            one = Found(record.read_case(), record.result, folder.resolve())
            found.setdefault(one.case.probe, []).append(one)
    fine = {work.key for work, record, _ in done if record.status in FINE}
    base, missing = out.resolve(), [work.case for work in works if work.key not in fine]
    claims = all_claims(Measured(found, missing), board.resolve())
    conditions = conditions_of([record for _, record, _ in done], len(works), budget)
    data, page = out / "claims.json", out / "CLAIMS.md"
    _write(data, render_json(claims, conditions, base))
    _write(page, render_markdown(claims, conditions, base))  # there, whatever becomes of the pictures
    pictures = _pictures(claims, found, base)
    _write(page, render_markdown(claims, conditions, base, pictures))
    return [page, data, *pictures.values()]


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(text.encode()))


def _pictures(claims: Sequence[Claim], found: dict[str, list[Found]], base: Path) -> dict[str, Path]:
    """One of the claims and one of each probe; none where nothing can be drawn with."""
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    folder = base / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"The eight claims, figure by figure": draw_claims(claims, folder / "claims.png")}
    for name, cases in found.items():
        drawn[f"The {name} probe"] = get_probe(name).draw(cases, folder / f"probe-{name}.png")
    return drawn


def _show_plan(works: Sequence[CaseWork], store: ProbeStore) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    for work in works:
        found = store.find(work.folder, work.key)
        counts[work.case.probe, found[0].status if found else "to run"] += 1
    rows = [(probe, state, count) for (probe, state), count in counts.items()]
    print(tabulate(rows, headers=["probe", "state", "cases"], tablefmt="github"))
    print(f"\n{len(works)} cases, {sum(count for (_, state), count in counts.items() if state == 'to run')} to run")
    return 0
