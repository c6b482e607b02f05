"""`regress`: the gate. Compare two sides that were measured, measure two revisions, or show many comparisons."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from seqbench.cli.common import AUTO, FLAT, Common, show_json, speaker
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.options import MACHINE, OUTPUT, WHAT, Flag, Jobs, Parameter, Range, Texts, check_options
from seqbench.report.terminal import in_terminal, print_path, print_table, print_text

if TYPE_CHECKING:  # --help answers before any of these is imported
    from seqbench.gate.page import Findings
    from seqbench.gate.revisions import Installed, Order
    from seqbench.gate.verdict import Change, Limits, Verdict

__all__ = ["RegressCompare", "RegressRun", "RegressTrend", "group"]

OWN_BENCHMARKS = Path("tests/benchmarks")
MODELS = "lstm,gru"  # of the small grid
GRID = ("--task weather,textgen", "--task textgen --dropout 0.5")  # where dropout is strong enough to show
Factor = Annotated[float, Range(gt=1, le=100), Parameter(group=WHAT, metavar="X")]
Loss = Annotated[float, Range(ge=0, le=1), Parameter(group=WHAT, metavar="X")]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """From where on a difference counts, and how it is shown."""

    factor: Factor = 1.1
    """Least ratio of times, or of memory, that counts; a rank test must agree (p < 0.002)."""
    relevant: Loss = 0.005
    """Least loss of skill that counts; a paired test must agree (p < 0.05 after Holm)."""
    accept: Annotated[Texts, Parameter(group=WHAT, metavar="TEXT")] = ()
    """A bad change that is wanted: 'PATTERN up to X: reason'; may be given again."""
    format: Annotated[Literal["markdown", "json", "junit"] | None, Parameter(group=OUTPUT)] = None
    """What to print; by default a page in Markdown."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __post_init__(self) -> None:
        """Refuse what says two things, and texts that accept nothing."""
        check_options(self)
        if self.common.json and self.format not in (None, "json"):
            raise UserError(f"--json and --format {self.format} contradict each other: give one.")

    @property
    def limits(self) -> Limits:
        """Of times."""
        from seqbench.gate.verdict import Limits

        return Limits(factor=self.factor)

    def show(self, found: Findings) -> int:
        """Print it; the exit code that it deserves, whether or not somebody reads to the end."""
        from seqbench.gate.verdict import exit_code

        try:
            self._print(found)
            sys.stdout.flush()
        except BrokenPipeError:
            sys.stdout = None  # as nobody is there to read what is left
        return exit_code(found.changes)

    def _print(self, found: Findings) -> None:
        from seqbench.gate.page import as_json, as_junit, as_markdown

        kind = "json" if self.common.json else self.format
        if kind == "json":
            show_json(as_json(found))
        elif kind == "junit":
            sys.stdout.write(as_junit(found))
        elif kind is None and in_terminal(sys.stdout):
            _show_short(found)
        else:
            print(as_markdown(found), end="")
        if kind in ("json", "junit"):
            print(f"regress: {found.headline}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class RegressCompare:
    """Compare what two sides measured: files of pytest-benchmark, records, or folders with both. Exit code 3: worse."""

    baseline: Annotated[Path, Parameter(group=WHAT, metavar="PATH")]
    """What was measured before: a file, or a folder of files, one from each process."""
    candidate: Annotated[Path, Parameter(group=WHAT, metavar="PATH")]
    """The same, after the change."""
    other_device: Annotated[Flag, Parameter(group=MACHINE)] = False
    """Compare times of different devices all the same."""
    judging: Annotated[Judging, FLAT] = field(default_factory=Judging)

    @property
    def common(self) -> Common:
        """Options of every command."""
        return self.judging.common

    def __call__(self) -> int:
        """Print what changed; the exit code says whether that is a regression."""
        from seqbench.gate.page import Findings, Revision
        from seqbench.gate.quality import compare_quality, read_records
        from seqbench.gate.timings import check_devices, read_side
        from seqbench.gate.verdict import Accepted, accept, compare_times, not_used

        wanted = [Accepted.parse(text) for text in self.judging.accept]
        sides = [read_side(path) for path in (self.baseline, self.candidate)]
        records = [read_records(path) for path in (self.baseline, self.candidate)]
        for path, timings, runs in zip((self.baseline, self.candidate), sides, records, strict=True):
            if not timings.samples and not runs:
                raise UserError(f"{path} holds no figures: neither files of pytest-benchmark nor records.")
        device = check_devices(sides, others=self.other_device)
        changes = compare_times(sides[0], sides[1], self.judging.limits)
        changes += compare_quality(records[0], records[1], self.judging.relevant)
        found = Findings(
            base=Revision(str(self.baseline)),
            head=Revision(str(self.candidate)),
            device=device,
            changes=accept(changes, wanted),
            limits=self.judging.limits,
            relevant=self.judging.relevant,
            notes=tuple(not_used(changes, wanted)),
        )
        return self.judging.show(found)


@dataclass(frozen=True, kw_only=True)
class RegressRun:
    """Measure two revisions of the repository here, in turns, and compare them. Exit code 3: something got worse."""

    base: Annotated[str, Parameter(group=WHAT, metavar="REV")]
    """Revision to compare with: a branch, tag or hash; of a branch that went on, the commit where the head left it."""
    head: Annotated[str | None, Parameter(group=WHAT, metavar="REV")] = None
    """Revision that is judged; by default the working tree as it is."""
    model: Annotated[str, Parameter(group=WHAT, metavar="NAME")] = ""
    """Measure these models, several with commas, with seqbench's own benchmarks: a layer of yours, with --plugin."""
    benchmarks: Annotated[Path | None, Parameter(group=WHAT, metavar="DIR")] = None
    """Folder of benchmarks in the repository; by default tests/benchmarks, or with --model those of seqbench."""
    only: Annotated[Texts, Parameter(group=WHAT, metavar="TEXT")] = ()
    """Only benchmarks with this in their names, and no training; may be given again."""
    processes: Annotated[int, Range(ge=0, le=100), Parameter(group=WHAT, metavar="N")] = 8
    """Processes on each side at first, at least 7; more where these leave it open. 0: no times are measured."""
    seeds: Annotated[int, Range(ge=0, le=100), Parameter(group=WHAT, metavar="N")] = 5
    """Seeds of the small grid of training, which a repository of seqbench or a --plugin has; 0: nothing is trained."""
    minutes: Annotated[float, Range(ge=0, le=10_000), Parameter(group=WHAT, metavar="X")] = 18
    """Minutes after which nothing is measured again that the first processes leave open."""
    jobs: Jobs = 2
    """Trainings that run at once; what reads a clock runs alone."""
    out: Annotated[Path | None, Parameter(group=OUTPUT, metavar="DIR")] = None
    """Where figures, records and the page go: an empty folder; by default one below results/local/regress."""
    judging: Annotated[Judging, FLAT] = field(default_factory=Judging)
    loads_plugins = False  # each side loads its own

    def __post_init__(self) -> None:
        """Refuse what can't be measured."""
        check_options(self)
        if not self.processes and not self.seeds:
            raise UserError("--processes 0 and --seeds 0 leave nothing to compare.")
        if 0 < self.processes < 7:
            raise UserError(f"--processes {self.processes}: a rank test needs at least 7 (0 leaves times out).")
        if len(self.common.plugin) > 1:
            raise UserError("regress run takes one --plugin, the file that is judged.")
        if self.common.plugin and not self.model:
            raise UserError("--plugin needs --model: the name that the file registers.")

    @property
    def common(self) -> Common:
        """Options of every command."""
        return self.judging.common

    def __call__(self) -> int:
        """Measure, write and print; the exit code says whether something got worse."""
        from seqbench.gate.measure import measure_times
        from seqbench.gate.page import Findings
        from seqbench.gate.revisions import accepted_in, install_both, revisions, workroom
        from seqbench.gate.timings import check_devices, read_side
        from seqbench.gate.verdict import Accepted, accept, not_used

        say, started = speaker("regress"), time.monotonic()
        repository = _repository()
        base, head = revisions(repository, self.base, self.head)
        wanted, notes = accepted_in(repository, base, head)
        wanted += [Accepted.parse(text) for text in self.judging.accept]
        plan = dataclasses.replace(self._plan(repository), until=started + 60 * self.minutes)
        out = self._folder(base.commit or "", head.commit or "")
        try:
            with workroom() as work:
                sides = install_both(repository, (base, head), plan, work, say)
                changes = self._grid(sides, plan, out)
                changes += measure_times(repository, sides, plan, out, say) if self.processes else []
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; what was measured is in {out}, and is not compared.") from None
        measured = [read_side(out / name) for name in ("base", "head")] if self.processes else []
        found = Findings(
            base=base,
            head=head,
            device=check_devices(measured, others=True),
            changes=accept(changes, wanted),
            limits=self.judging.limits,
            relevant=self.judging.relevant,
            notes=(*notes, *not_used(changes, wanted)),
        )
        _write(found, out)
        code = self.judging.show(found)
        say(f"everything is in {out}")
        return code

    def _folder(self, base: str, head: str) -> Path:
        """An empty folder for what is measured; by default one that git ignores."""
        out = self.out
        if out is None:
            place = Path("results/local/regress") / f"{base[:10]}-{head[:10]}"
            out = next(f for n in range(1, 10_000) if not (f := place.with_name(f"{place.name}-{n}")).exists())
        if out.is_file():
            raise UserError(f"--out {out} is a file: name a folder.")
        if out.exists() and any(out.iterdir()):
            raise UserError(f"--out {out} is not empty: name another folder, or remove it.")
        out.mkdir(parents=True, exist_ok=True)
        try:
            (out / "base").mkdir()
        except FileExistsError:
            raise UserError(f"--out {out} is in use by another run: name another folder.") from None
        (out / ".gitignore").write_text("*\n", encoding="ascii")  # it may lie in the repository that is measured
        return out.resolve()

    def _plan(self, repository: Path) -> Order:
        from seqbench.gate.revisions import Order

        benchmarks = self.benchmarks or (None if self.model else OWN_BENCHMARKS)
        plugin = _inside(self.common.plugin[0], repository) if self.common.plugin else None
        if benchmarks is not None:
            benchmarks = _inside(benchmarks, repository) if benchmarks.exists() else benchmarks
        models = tuple(filter(None, self.model.split(",")))
        return Order(benchmarks, models, plugin, self.only, self.processes, self.judging.limits)

    def _grid(self, sides: tuple[Installed, Installed], plan: Order, out: Path) -> list[Change]:
        """The small grid of training on both sides, compared; nothing where neither trains what the revisions hold."""
        from seqbench.gate.measure import run_grid_of
        from seqbench.gate.quality import compare_quality, read_records
        from seqbench.gate.verdict import Change

        if not self.seeds or self.only or not (plan.plugin or all(side.is_seqbench for side in sides)):
            return []
        models = self.model or MODELS
        words = ["--model", models, "--seeds", str(self.seeds), "--budget", "smoke"]
        places = [out / "quality" / name for name in ("base", "head")]
        said: list[list[str]] = [[], []]
        for part in GRID:
            speaker("regress")(f"both sides: training {models}, {self.seeds} seeds at smoke, {part}")
            for lines, line in zip(
                said, run_grid_of(sides, plan, [*part.split(), *words], places, self.jobs), strict=True
            ):
                lines.append(line)
        wrong = [" ".join(filter(None, lines)) for lines in said]
        records = [read_records(place) for place in places]
        changes = compare_quality(records[0], records[1], self.judging.relevant)
        if not any(wrong):
            return changes
        both = f"on both sides: {wrong[1]}" if all(wrong) else wrong[1] or f"fails in the base: {wrong[0]}"
        verdict: Verdict = "same" if all(wrong) else "failed" if wrong[1] else "not told"
        return [*changes, Change("quality", "the grid of training", "quality", verdict=verdict, note=both)]


@dataclass(frozen=True, kw_only=True)
class RegressTrend:
    """Show each benchmark over commits, from the comparisons in a folder, with its steps."""

    folder: Annotated[Path, Parameter(metavar="DIR")] = field(kw_only=False)
    """Folder that holds what `regress run` left: every regress.json in it is read."""
    plot: Annotated[Path | None, Parameter(group=OUTPUT, metavar="[DIR]")] = None
    """Draw one picture for each group of benchmarks into this folder; by default plots, in DIR."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print the table, and draw if asked to."""
        from seqbench.gate.trend import read_trend, trend_charts, trend_section
        from seqbench.report.draw import draw, need_matplotlib

        if self.plot is not None:
            need_matplotlib()
        trend = read_trend(self.folder)
        section = trend_section(trend)
        drawn = []
        if self.plot is not None:
            place = self.folder / "plots" if str(self.plot) == AUTO else self.plot
            place.mkdir(parents=True, exist_ok=True)
            drawn = [draw(chart, place / f"{name}.png") for name, chart in trend_charts(trend).items()]
        if self.common.json:
            rows = [dict(zip(section.headers, row, strict=True)) for row in section.rows]
            show_json({"commits": len(trend.commits), "benchmarks": rows, "notes": section.notes, "pictures": drawn})
            return 0
        print_text(section.heading)
        print_table(section.headers, section.rows)
        for note in section.notes:
            print_text(note)
        for path in drawn:
            print_path("", path)
        return 0


def _show_short(found: Findings) -> None:
    """In a terminal: what changed as a table, what did not as a count."""
    from seqbench.gate.page import as_sections, legend

    print_text(f"{found.headline}\n{found.about}\n")
    for section in as_sections(found):
        if section.heading:
            print_text(section.heading)
        else:
            print_table(section.headers, section.rows)
            print()
    for line in (*found.notes, *legend(found)):
        print_text(line)


def _repository() -> Path:
    """The root of the repository that this runs in."""
    import subprocess

    try:
        done = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True)
    except OSError:
        raise UserError("regress run needs git, which is not installed.") from None
    if done.returncode:
        raise UserError("this folder is in no git repository: go into the one that holds the revisions.")
    return Path(done.stdout.strip())


def _inside(path: Path, repository: Path) -> Path:
    """``path`` relative to the repository, in which each revision has its own."""
    whole = path.resolve()
    if not whole.is_relative_to(repository.resolve()):
        raise UserError(f"{path} is not in this repository, so that its revisions do not have it.")
    return whole.relative_to(repository.resolve())


def _write(found: Findings, out: Path) -> None:
    """As data, as a page and as JUnit."""
    from seqbench.gate.page import as_json, as_junit, as_markdown

    texts = {
        "regress.json": json.dumps(as_json(found), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "regress.md": as_markdown(found),
        "regress.xml": as_junit(found),
    }
    for name, text in texts.items():
        replace_file(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]


COMMANDS = {"compare": RegressCompare, "run": RegressRun, "trend": RegressTrend}


def group(word: str) -> dict[str, type[Any]]:
    """The commands whose first word is regress; ``compare`` may be left out."""
    return {**COMMANDS}
