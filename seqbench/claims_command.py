"""The command `claims`: measure what the ledger needs, and write it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from seqbench.claims.ledger import render_json, render_markdown
from seqbench.claims.page import Measured, all_claims, conditions_of
from seqbench.claims.plan import Size, plan
from seqbench.claims.plots import draw_claims
from seqbench.data.files import replace_file
from seqbench.device import resolve_device
from seqbench.errors import UserError
from seqbench.kept import FINE
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
        store.probe()
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
    missing = Counter(work.case.probe for work in works)
    missing.subtract(work.case.probe for work, record, _ in done if record.status in FINE)
    for _, record, folder in done:
        if record.result is not None:
            one = Found(record.read_case(), record.result, folder.resolve())
            found.setdefault(one.case.probe, []).append(one)
    base = out.resolve()
    claims = all_claims(Measured(found, missing), board.resolve())
    conditions = conditions_of([record for _, record, _ in done], len(works), budget)
    pictures = _pictures(found, base)
    if pictures is not None:
        pictures = {
            "The eight claims, figure by figure": draw_claims(claims, base / "plots" / "claims.png"),
            **pictures,
        }
    page = render_markdown(claims, conditions, base, pictures)
    written = {"CLAIMS.md": page, "claims.json": render_json(claims, conditions, base)}
    for name, text in written.items():
        replace_file(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return [*(out / name for name in written), *(pictures or {}).values()]


def _pictures(found: dict[str, list[Found]], base: Path) -> dict[str, Path] | None:
    """One for each probe; None where nothing can be drawn with."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    (base / "plots").mkdir(parents=True, exist_ok=True)
    return {
        f"The {name} probe": get_probe(name).draw(cases, base / "plots" / f"probe-{name}.png")
        for name, cases in found.items()
    }


def _show_plan(works: Sequence[CaseWork], store: ProbeStore) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    for work in works:
        found = store.find(work.folder, work.key)
        counts[work.case.probe, found[0].status if found else "to run"] += 1
    rows = [(probe, state, count) for (probe, state), count in counts.items()]
    print(tabulate(rows, headers=["probe", "state", "cases"], tablefmt="github"))
    print(f"\n{len(works)} cases, {sum(count for (_, state), count in counts.items() if state == 'to run')} to run")
    return 0
