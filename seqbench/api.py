"""seqbench from Python: run models, and read what came out, as objects that print as tables.

`run` does what the command does, with the same options and the same sentences where one is wrong; `leaderboard` and
`compare` say what the records show, and how sure that is. Only `run` imports torch, even where every result is stored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
from pydantic import PrivateAttr

from seqbench.board import (
    BoardTable,
    chosen_results,
    frame_of,
    load_results,
    make_tables,
    mean_pairings,
    pairings,
    render,
)
from seqbench.board.page import not_verified
from seqbench.board.summary import short_board, short_runs
from seqbench.board.verify import check_stored
from seqbench.config import FLAGS, GridOptions, Placement, RunConfig, is_given
from seqbench.errors import Interrupted, UserError, nearest, unknown_option
from seqbench.jobs import FINE
from seqbench.jobs.job import Listener, Outcome
from seqbench.jobs.record import RunRecord
from seqbench.options import brief
from seqbench.registry import Entry, loaded_plugins
from seqbench.report.text import NONE, Section, Shown, decimals, format_value, listed, rounded, with_reach
from seqbench.stats import Interval
from seqbench.task import TASKS, TaskSpec, filled, parse_options

if TYPE_CHECKING:
    from seqbench.board.compare import Difference, MeanPairing, Pairing

__all__ = [
    "Board",
    "DataShown",
    "PairedModels",
    "Results",
    "RunResult",
    "compare",
    "leaderboard",
    "predict",
    "run",
    "show",
]

Names = str | Iterable[str]
ALPHA = 0.05
OWN = (  # arguments of `run` that are no field of the configuration
    *("seeds", "jobs", "out", "force", "tune_learning_rate", "time_limit", "options", "progress", "name"),
    *("executor", "address", "gpus_per_cell"),
)
LISTS = ("features", "drop", "time", "series", "run")  # options that name several columns, with commas or as a list
COLUMNS = (*LISTS, "target", "group", "split")  # of a DataFrame these may be numbers


# --- run -------------------------------------------------------------------------------------------------------------


@overload
def run(
    task: str | None = None, model: str = "", *, data: Any = None, seeds: None = None, jobs: int | None = None,
    out: str | Path = "results/local", force: bool = False, tune_learning_rate: Literal[False] = False,
    time_limit: float | None = None, options: Mapping[str, Any] | None = None, progress: bool | None = None,
    executor: str = "local", address: str | None = None, gpus_per_cell: float | None = None, **config: Any,
) -> RunResult: ...  # fmt: skip


@overload
def run(
    task: Names | None = None, model: Names = "", *, data: Any = None, seeds: int | None = None,
    jobs: int | None = None, out: str | Path = "results/local", force: bool = False, tune_learning_rate: bool = False,
    time_limit: float | None = None, options: Mapping[str, Any] | None = None, progress: bool | None = None,
    executor: str = "local", address: str | None = None, gpus_per_cell: float | None = None, **config: Any,
) -> Results: ...  # fmt: skip


def run(
    task: Names | None = None,
    model: Names = "",
    *,
    data: Any = None,
    seeds: int | None = None,
    jobs: int | None = None,
    out: str | Path = "results/local",
    force: bool = False,
    tune_learning_rate: bool = False,
    time_limit: float | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    executor: str = "local",
    address: str | None = None,
    gpus_per_cell: float | None = None,
    **config: Any,
) -> RunResult | Results:
    """Train models on tasks, or on data of your own; what has a result already is not run again.

    One task and one model give a `RunResult`, the record with its predictions. Several (a list, ``"dna,weather"`` or
    ``"all"``), a number of ``seeds`` or ``tune_learning_rate`` give `Results`. A run that fails has a record that says
    how, and the others go on.

    Args:
        task: name or names of tasks; not needed with ``data``.
        model: name or names of models.
        data: a DataFrame, or the path of a file: your own data. ``target``, ``kind``, ``horizon``, ``time`` and the
            other options of the command line say what it is; ``test`` may be a second one, and ``name`` names the set.
        seeds: how many seeds, counted from ``seed``.
        jobs: cells that run at once, each in a process of its own. With 1, as by default, they run here, one after the
            other, so that models and tasks which a notebook or a script registers are known; a model from a plug-in's
            file runs in a process of its own all the same, as it may take that down.
        out: directory of the records.
        force: run again even if there is a result; the old record stays beside the new one.
        tune_learning_rate: try each model at .001, .003 and .01 with seed 0, then beyond while the best is at an edge
            (.0001 to .1), and go on with the best on validation.
        time_limit: seconds after which a cell is ended; cells then run in processes of their own.
        options: options of the tasks, such as ``{"ticker": "IBM"}``; they can be given by keyword, too.
        progress: False shows nothing on stderr while it runs.
        executor: "ray" runs cells on the nodes of a Ray cluster; ``jobs`` are then as many as fit, by default.
        address: of the cluster, "HOST:PORT", or "auto" for the one that this machine belongs to.
        gpus_per_cell: share of a GPU of the cluster that a cell takes, such as 0.25.
        config: any field of `RunConfig`, such as ``budget="smoke"``, ``hidden=(128, 64)`` or ``seed=1``; with
            ``recipe="..."`` a documented configuration fills in what is not given, the model too.

    Raises:
        UserError: an unknown name or option, or a value that can't be used; nothing is run or written then.
        Interrupted: Ctrl-C; a `KeyboardInterrupt` that says where it was. Records that stand are kept.
        OSError: a record could not be written.
    """
    asked = GridOptions(
        seeds=1 if seeds is None else seeds,
        jobs=jobs,
        time_limit=time_limit,
        tune_learning_rate=tune_learning_rate,
        force=force,
    )
    options_of_place: dict[str, Any] = {"executor": executor, "address": address, "gpus_per_cell": gpus_per_cell}
    place = Placement(**options_of_place)
    _check_run(out, progress)
    model, config = _with_recipe(model, options, config)
    many = not (task is None or _is_one(task)) or not _is_one(model) or seeds is not None or tune_learning_rate
    from seqbench.experiment import Grid, cluster_of, run_apart, run_cell, run_grid
    from seqbench.jobs.store import Store
    from seqbench.models.mixer import MODELS

    if isinstance(model, str) and not model:
        raise UserError("which model? Give model='lstm', or several: see `seqbench list models`.")
    models = MODELS.chosen(_joined(model, "model"))
    alone = jobs in (None, 1) and time_limit is None and place.here
    said: list[str] = []
    given = {**config, **_own_data({**config, "data": data})}
    tasks, base = _tasks_and_config(task, models, options, given, said.append)
    own: list[Entry[Any]] = [MODELS.entry(name) for name in models]
    entries: list[Entry[Any]] = [*map(TASKS.entry, tasks), *own]
    here = alone and not (any(entry.apart for entry in own) and _can_leave(entries))
    plugins = loaded_plugins(elsewhere=False) if here else _known_elsewhere(entries)
    store = Store(out)
    needs: dict[str, Any] = {"device": base.device, "threads": base.threads, "jobs": jobs}
    with _told_where(), cluster_of(place, **needs, plugins=plugins, say=_speaker(progress)) as cluster:
        base = base if cluster is None else dataclasses.replace(base, device=cluster.device)
        grid = Grid(base, tasks, models, store, seeds=asked.seeds, tune=tune_learning_rate)
        at_once = (jobs or 1) if cluster is None else cluster.slots
        with _listener(progress, at_once, base.name if alone and not many else "") as listener:
            for line in said:
                listener.say(line)
            if not many and alone and not here:
                outcomes = [run_apart(base, store, plugins=plugins, force=force, listener=listener)]
            elif not many and here:
                outcomes = [run_cell(base, store, force=force, listener=listener)]
            else:
                outcomes = run_grid(
                    grid,
                    listener,
                    jobs=jobs,
                    limit=time_limit,
                    plugins=plugins,
                    force=force,
                    here=here,
                    executor=cluster,
                )
    results = Results.of(outcomes)
    return results if many else _single(results[0], stored=outcomes[0].stored)


def _with_recipe(
    model: Names, options: Mapping[str, Any] | None, config: dict[str, Any]
) -> tuple[Names, dict[str, Any]]:
    """The model and the configuration, with what the recipe says that ``config`` names and the user does not."""
    name = config.get("recipe")
    if name is None or isinstance(name, (bool, np.bool_)):  # a task may have an option of that name, which is a switch
        return model, config
    if not isinstance(name, str):
        raise UserError(f"recipe={brief(name)} is no name: see `seqbench list recipes`.")
    known, others = _merged(options, config)
    named = {key: str(value) for key, value in others.items()}
    pairs = (*known.get("option", ()), *(f"{key}={value}" for key, value in named.items()))
    full = filled(name, {**known, "option": pairs})
    model = model or full["model"]
    more = {key: value for key, value in full.items() if key not in known and key not in ("model", "option")}
    return model, {**config, **more, "option": (*known.get("option", ()), *full["option"][len(pairs) :])}


def _single(result: RunResult, *, stored: bool) -> RunResult:
    """``result``, if one that was ``stored`` is as it was written."""
    if stored:
        check_stored(result, result.folder)
    return result


def _own_data(given: Mapping[str, Any]) -> dict[str, Any]:
    """The files of ``data`` and ``test``, DataFrames written to one, and the name of the data set."""
    files: dict[str, Any] = {}
    for name in ("data", "test"):
        value = given.get(name)
        if isinstance(value, pd.DataFrame):
            from seqbench.disk import cache_root
            from seqbench.files.frames import FRAMES, frame_file

            files[name] = str(frame_file(value, cache_root() / FRAMES))
        elif value is not None:
            files[name] = value
    if given.get("name") is not None:
        if not isinstance(given["name"], str):
            raise UserError(f"--name {brief(given['name'])} is no text.")
        files["dataset"] = given["name"]
    return files


def _tasks_and_config(
    task: Names | None,
    models: Sequence[str],
    options: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    say: Callable[[str], None],
) -> tuple[tuple[str, ...], RunConfig]:
    """The names of the tasks, that for the user's own data where none is named, and the configuration of the first."""
    given = {name: value for name, value in given.items() if name != "name"}
    if given.get("data") is None:
        if task is None:
            raise UserError("which task? Give task='dna' (see `seqbench list tasks`), or data of your own: data=...")
        tasks = TASKS.chosen(_joined(task, "task"))
        return tasks, _config(tasks, models, options, given)
    from seqbench.files.kinds import chosen_task

    known, others = _merged(options, given)
    named = "" if task is None else _joined(task, "task")
    if "," in named or named == "all":
        raise UserError("data of your own is one task's: leave task out, or name one.")
    specs = [TASKS.get(named)] if named else [entry.value for entry in TASKS.entries() if "path" in entry.value.sources]
    _check_keywords(others.keys() - _plain_names(options), [spec.at("path") for spec in specs])
    first = RunConfig(task=named, model=models[0], **known)
    texts = tuple(f"{name}={value}" for name, value in others.items())
    name, first = chosen_task(named, dataclasses.replace(first, option=(*first.option, *texts)), say)
    tasks = TASKS.chosen(name)
    base = dataclasses.replace(first, task=tasks[0])
    _check_options(TASKS.get(tasks[0]).at("path"), base.task_options)
    return tasks, base


# --- predict, show ---------------------------------------------------------------------------------------------------


def predict(result: RunResult | Results | str | Path, data: Any, *, beam: int | None = None) -> pd.DataFrame:
    """What a trained model makes of new rows, in the data's own units.

    Args:
        result: what `run` gave for one model, or the path of its record or folder.
        data: a DataFrame or the path of a file, in the form that the model was trained on; targets are not needed.
        beam: translations that are kept in mind while one is written; by default as many as in the run.

    Raises:
        UserError: there is no trained model, or ``data`` is not what it reads.
    """
    from seqbench.predictions import predicted_rows

    if isinstance(result, Results):
        if len(result) != 1:
            raise UserError(f"these are {len(result)} runs: give one of them, such as results[0].")
        result = result[0]
    if not isinstance(result, (RunResult, str, Path)):
        raise UserError(f"{brief(result)} is no trained model: give what seqbench.run gave, or the path of its folder.")
    if not isinstance(data, (pd.DataFrame, str, Path)):
        more = ": to_frame() makes one of a Series" if isinstance(data, pd.Series) else ""
        raise UserError(f"new rows are a DataFrame or the path of a file, and no {type(data).__name__}{more}.")
    folder = result.folder if isinstance(result, RunResult) else Path(result)
    return predicted_rows(folder, data if isinstance(data, pd.DataFrame) else Path(data), beam)


def show(
    task: str | None = None, *, data: Any = None, options: Mapping[str, Any] | None = None, **config: Any
) -> DataShown:
    """What a task's data, or data of your own, holds: how it is read and split, sizes, balance, and baselines.

    Args:
        task: name of a task; not needed with ``data``.
        data: a DataFrame or the path of a file of your own.
        options: options of the task; they can be given by keyword, too.
        config: what says which data is meant, as for `run`: ``target``, ``kind``, ``horizon`` ...

    Raises:
        UserError: an unknown name or option, or data that can't be used.
    """
    from seqbench.about import about_prepared
    from seqbench.prepare import fit_baselines, prepare

    given = {**config, **_own_data({**config, "data": data})}
    with _listener(None, 1, "data") as listener:
        names, base = _tasks_and_config(task, ("",), options, given, listener.say)
        prepared = prepare(names[0], base.task_options, base.source, listener.say, base.data, base.test)
        return DataShown(about_prepared(prepared, fit_baselines(prepared, listener.say)))


@dataclass(frozen=True, repr=False, eq=False)
class DataShown(Shown):
    """What prepared data holds; ``about`` has it as `data show --json` prints it."""

    about: dict[str, Any]

    def sections(self) -> list[Section]:
        """How it was read and split, sizes, classes or features, and the baselines."""
        about = self.about
        parts = [self._table(f"{about['task']} ({about['kind']}): {about['description']}", "sizes", about["notes"])]
        parts += [self._table("", name, []) for name in ("classes", "features", "baselines") if about[name]]
        return parts

    def _table(self, heading: str, name: str, notes: Sequence[str]) -> Section:
        rows = self.about[name]
        cells = [[value if isinstance(value, str) else format_value(value) for value in row.values()] for row in rows]
        return Section(heading, list(rows[0]), cells, list(notes))


def _is_one(names: Names) -> bool:
    """Whether it names a single task or model, as the command line tells it."""
    return isinstance(names, str) and names != "all" and "," not in names


def _joined(names: Names, noun: str) -> str:
    """As the command line has them: with commas."""
    every = [names] if isinstance(names, str) else _texts(names)
    if not every:
        raise UserError(f"{noun}={brief(names)} is no name: take a name, or a list of names.")
    return ",".join(every)


def _texts(values: Any) -> list[str] | None:
    """Any iterable of texts as a list, a set sorted; None for anything else."""
    if not isinstance(values, Iterable) or isinstance(values, (bytes, Mapping, pd.DataFrame)):
        return None
    texts = list(values)
    if not all(isinstance(text, str) for text in texts):
        return None
    return sorted(texts) if isinstance(values, (set, frozenset)) else texts


def _check_run(out: Any, progress: Any) -> None:
    """Raise `UserError` for what is no directory and no switch."""
    if not isinstance(out, (str, Path)) or "\0" in str(out):
        raise UserError(f"out={brief(out)} is no directory: take the path of one.")
    if progress is not None and not isinstance(progress, (bool, np.bool_)):
        raise UserError(f"progress={brief(progress)} is neither True nor False.")


def _merged(options: Mapping[str, Any] | None, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of `RunConfig`, and options of the tasks, of all that was ``given`` by keyword or in ``options``.

    An option that the command line has a flag for is given as one.
    """
    if options is not None and not isinstance(options, Mapping):
        raise UserError(f"options={brief(options)} is no dictionary: write options={{'name': value}}.")
    fields = {item.name for item in dataclasses.fields(RunConfig)}
    if isinstance(given.get("recipe"), (bool, np.bool_)):
        fields.remove("recipe")  # it is the option of a task, then
    known = {name: value for name, value in given.items() if name in fields}
    if "option" in known:
        texts = [known["option"]] if isinstance(known["option"], str) else _texts(known["option"])
        if texts is None:
            raise UserError(f"option={brief(known['option'])} is no text like 'name=value'.")
        known["option"] = tuple(texts)
    for name in COLUMNS:
        known |= {name: _column_names(name, known[name])} if name in known else {}
    if isinstance(known.get("missing"), (str, int, float)):
        known["missing"] = (known["missing"],)
    if "missing" in known:
        known["missing"] = tuple(str(mark) for mark in known["missing"] or ())
    others = {name: value for name, value in given.items() if name not in fields}
    written = [*dict.fromkeys(text.partition("=")[0] for text in known.get("option", ()))]
    written += [name for name in FLAGS if is_given(known.get(name))]
    counts = Counter(str(name).replace("-", "_") for name in (*written, *others, *(options or {})))
    for name, count in counts.items():
        if count > 1:
            raise UserError(f"the task's option {name} is given twice: give it once.")
    return known, {str(name).replace("-", "_"): value for name, value in (options or {}).items()} | others


def _column_names(option: str, value: Any) -> Any:
    """Names of columns as the command line has them: a number is a name, too, and a list where several can be given."""
    if _is_number(value):
        return str(value)
    if option in LISTS and not isinstance(value, (str, type(None))):
        if isinstance(value, (list, tuple, pd.Index, range)):
            value = [str(name) if _is_number(name) else name for name in value]
        if several := _texts(value):
            return ",".join(several)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _config(
    tasks: Sequence[str], models: Sequence[str], options: Mapping[str, Any] | None, given: Mapping[str, Any]
) -> RunConfig:
    """The configuration of the first cell; keywords that are no fields of it are options of the tasks."""
    known, values = _merged(options, given)
    base = RunConfig(task=tasks[0], model=models[0], **known)
    specs = [TASKS.get(task).at(base.source) for task in tasks]
    _check_keywords(values.keys() - _plain_names(options), specs)
    for spec in specs:
        _check_options(spec, {**base.task_options, **values})
    more = (f"{name}={value}" for name, value in values.items())
    return dataclasses.replace(base, option=(*base.option, *more))


def _plain_names(options: Mapping[str, Any] | None) -> set[str]:
    return {str(name).replace("-", "_") for name in options or {}}


def _check_keywords(names: Iterable[str], specs: Sequence[TaskSpec]) -> None:
    """Raise `UserError` for a keyword that is no option of any of these tasks, and say what it may be."""
    of_tasks = {item.name for spec in specs for item in dataclasses.fields(spec.options)}
    for name in sorted(names):
        if name == "plugin":
            raise UserError("a plug-in is loaded before it is used: call seqbench.load_plugin with its file.")
        if name not in of_tasks:
            choices = {*(item.name for item in dataclasses.fields(RunConfig)), *OWN} - {"option", *FLAGS} | of_tasks
            raise UserError(unknown_option(name, choices, python=True))


def _check_options(spec: TaskSpec, values: Mapping[str, Any]) -> None:
    """Raise `UserError` for an option that the task has not, or a value that it can't use."""
    fields = {item.name: item for item in dataclasses.fields(spec.options)}
    for name, value in values.items():
        if name in fields and not isinstance(value, (str, int, float, np.generic)):
            kind = type(fields[name].default).__name__
            raise UserError(f"option {name}={brief(value)} of task {spec.name} must be of type {kind}.")
    parse_options(spec, {name: str(value) for name, value in values.items()})


def _can_leave(entries: Sequence[Entry[Any]]) -> bool:
    """Whether another process can load all that is needed, so that a model which takes that down leaves a record."""
    return not any(entry.here_only for entry in entries) and all(
        file.is_file() for file in loaded_plugins(elsewhere=False)
    )


def _known_elsewhere(entries: Sequence[Any]) -> tuple[Path, ...]:
    """The plug-in files that other processes load; raises `UserError` for what only this process knows."""
    for entry in entries:
        if entry.here_only:
            raise UserError(
                f"{entry.name} is registered in this session only, so other processes do not know it: leave out jobs, "
                "time_limit and executor, or write it to a file and load this with seqbench.load_plugin."
            )
    return loaded_plugins()


def _listener(progress: bool | None, jobs: int, title: str) -> AbstractContextManager[Listener]:
    if progress is not None and not progress:
        return contextlib.nullcontext(Listener())
    from seqbench.jobs.progress import Terminal

    return Terminal(jobs, title)


def _speaker(progress: bool | None) -> Callable[[str], None]:
    """Says what is to be known of a cluster, where progress is shown at all."""
    return lambda line: None if progress is False else print(f"ray: {line}", file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def _told_where() -> Iterator[None]:
    """Ctrl-C says where it was, and what to do."""
    try:
        yield
    except KeyboardInterrupt as error:
        usual = "interrupted; records that stand are kept. The same command goes on with the rest."
        raise Interrupted((str(error) or usual).replace("The same command", "The same call")) from None


# --- results ---------------------------------------------------------------------------------------------------------


class RunResult(Shown, RunRecord):
    """The record of one run, which prints as a table, knows the folder it lies in and what the model predicted."""

    _folder: Path = PrivateAttr()

    @classmethod
    def of(cls, record: RunRecord, folder: Path) -> RunResult:
        """``record`` as it lies in ``folder``."""
        made = cls.model_construct(**dict(record))
        made._folder = folder
        return made

    @property
    def folder(self) -> Path:
        """Where the record, the predictions and the weights lie."""
        return self._folder

    @property
    def predictions(self) -> pd.DataFrame:
        """What was predicted of the test split beside what was true, in the data's own units.

        Raises:
            UserError: the run did not end well, or its files are damaged.
        """
        from seqbench.predictions import predicted_test

        return predicted_test(self, self.folder)

    def sections(self) -> list[Section]:
        """The figure with its interval, the baselines beside it, and what is known of the data."""
        runs = short_runs(frame_of([(self, self.folder)]))
        about = self.task.about
        if self.primary is None or self.primary.value is None:
            return [runs]
        sign = 1 if self.primary.direction == "lower" else -1
        figures = sorted(
            [(self.model.name, self.primary.value), *self.baselines.items()],
            key=lambda row: math.inf if row[1] is None else sign * row[1],
        )
        unit = f" ({self.primary.unit})" if self.primary.unit else ""
        rows = [[name, NONE if value is None else format_value(value)] for name, value in figures]
        beside = Section("", ["", f"test {self.primary.name}{unit}"], rows, list(about.notes) if about else [])
        return [runs, beside]


@dataclass(frozen=True, repr=False)
class Results(Shown, Sequence[RunResult]):
    """Records of a grid in its order, and the folder of each.

    It prints as a table with a row for runs that differ in the seed only: the mean over seeds with its 95% interval, as
    the board has it, where all runs went well.
    """

    records: tuple[RunRecord, ...]
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Results:
        """Those of ``outcomes``, which are runs."""
        runs = [(one.record, one.folder.resolve()) for one in outcomes if isinstance(one.record, RunRecord)]
        return cls(tuple(record for record, _ in runs), tuple(folder for _, folder in runs))

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> RunResult: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> RunResult | Results:
        if isinstance(index, slice):
            return Results(self.records[index], self.folders[index])
        return RunResult.of(self.records[index], self.folders[index])

    @property
    def failed(self) -> Results:
        """Those of runs that neither went well nor were found not applicable."""
        bad = [i for i, record in enumerate(self.records) if record.status not in FINE]
        return Results(tuple(self.records[i] for i in bad), tuple(self.folders[i] for i in bad))

    @property
    def predictions(self) -> pd.DataFrame:
        """Those of all runs that went well, one below the other, with columns that say whose they are."""
        parts = [one.predictions.assign(task=one.task.name, model=one.model.name, seed=one.seed)
                 for one in self if one.status == "ok"]  # fmt: skip
        if not parts:
            raise UserError("no run went well: there are no predictions.")
        return pd.concat(parts, ignore_index=True)

    def frame(self) -> pd.DataFrame:
        """As `load_results` gives them: a DataFrame with one row per record."""
        return frame_of(zip(self.records, self.folders, strict=True))

    def sections(self) -> list[Section]:
        """One table, and below it what failed."""
        table = short_runs(self.frame())
        failures = [
            f"failed: {record.task.name} {record.model.name} seed {record.seed}: {record.status}: {record.reason}; "
            f"see {folder}"
            for record, folder in zip(self.failed.records, self.failed.folders, strict=True)
        ]
        return [table._replace(notes=[*table.notes, *failures])]


def _frame(
    results: Results | pd.DataFrame | str | Path | Iterable[str | Path],
    *,
    task: Names | None,
    model: Names | None,
    budget: Names | None,
) -> pd.DataFrame:
    """The rows of `load_results` with these names, which must be among them."""
    if isinstance(results, Results):
        frame = results.frame()
    else:
        frame = results if isinstance(results, pd.DataFrame) else load_results(results)
    missing = [name for name in frame_of(()).columns if name not in frame]
    if missing:
        raise UserError(f"the DataFrame has no column {missing[0]}: take rows of what seqbench.load_results gives.")
    if frame.empty:
        raise UserError("there are no records to compare: take other results.")
    for name in ("options", "config", "baselines"):
        if not all(isinstance(value, Mapping) for value in frame[name]):
            raise UserError(
                f"column {name} of the DataFrame holds no dictionaries (a CSV file can't keep them): take rows of what "
                "seqbench.load_results gives."
            )
    named = {"task": task, "model": model, "budget": budget}
    return chosen_results(frame, **{noun: _joined(names, noun) for noun, names in named.items() if names is not None})


def _typed(rows: Sequence[Mapping[str, Any]], *whole: str) -> pd.DataFrame:
    """As `load_results` has it: text columns hold None where nothing is known, numbers NaN or NA."""
    real = [name for name, value in rows[0].items() if isinstance(value, float)]
    return pd.DataFrame(rows, dtype=object).astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "float64"))


# --- leaderboard -----------------------------------------------------------------------------------------------------


def leaderboard(
    results: Results | pd.DataFrame | str | Path | Iterable[str | Path],
    *,
    task: Names | None = None,
    model: Names | None = None,
    budget: Names | None = None,
) -> Board:
    """Rank the models, and say which differences are significant.

    Args:
        results: what `run` or `load_results` gave, or rows of it, or directories of records.
        task: only these tasks.
        model: only these models; p-values are then adjusted for the comparisons among these.
        budget: only these budgets.

    Raises:
        UserError: there are no such records, or one is damaged.
    """
    return Board(make_tables(_frame(results, task=task, model=model, budget=budget)))


@dataclass(frozen=True, repr=False, eq=False)
class Board(Shown):
    """Tables of comparable runs, an overview of mean skill before those of several tasks."""

    tables: list[BoardTable]

    def sections(self) -> list[Section]:
        """In short; `markdown` says everything."""
        shown = [Section(*part) for part in short_board(self.tables)]
        first = len(shown) - len(self.tables)
        parts = [
            *shown[:first],
            *(part._replace(notes=table.caveats()) for part, table in zip(shown[first:], self.tables, strict=True)),
        ]
        doubts = [said] if (said := not_verified(self.tables)) else []
        how = "± is a 95% interval; the range after a rank holds those that the significant differences leave open."
        return [*parts[:-1], parts[-1]._replace(notes=[*parts[-1].notes, *doubts, how])]

    def markdown(self) -> str:
        """The whole page, as the command writes it."""
        return render(self.tables)

    def to_frame(self) -> pd.DataFrame:
        """One row per table and model.

        ``score`` and ``skill`` come with the ends of their 95% intervals; of a model that lacks a run they are missing.
        ``seeds`` says how many runs went well, ``better_than`` which rows the model is significantly better than.
        """
        rows = []
        for table in self.tables:
            about, measure = table.conditions, table.measure
            for row in table.models:
                score, skill = (each or Interval(math.nan, math.nan, math.nan) for each in (row.metric, row.skill))
                rank, best, worst = row.ranks or (None, None, None)
                rows.append(
                    {
                        "task": about.task, "budget": about.budget, "track": about.track, "table": table.title,
                        "rank": rank, "best_rank": best, "worst_rank": worst, "model": row.label,
                        "metric": measure.metric, "direction": measure.direction, "unit": measure.unit,
                        "score": score.value, "low": score.low, "high": score.high, "skill": skill.value,
                        "skill_low": skill.low, "skill_high": skill.high, "seeds": row.state,
                        "better_than": table.better_than(row.label),
                    }
                )  # fmt: skip
        return _typed(rows, "rank", "best_rank", "worst_rank")


# --- compare ---------------------------------------------------------------------------------------------------------


def compare(
    results: Results | pd.DataFrame | str | Path | Iterable[str | Path],
    model: str,
    other: str,
    *,
    task: Names | None = None,
    budget: Names | None = None,
) -> PairedModels:
    """Compare two models wherever both stand, over the same seeds and test examples.

    Args:
        results: what `run` or `load_results` gave, or rows of it, or directories of records.
        model: differences are its figure minus that of ``other``.
        other: the model that it is compared with.
        task: only these tasks.
        budget: only these budgets.

    Raises:
        UserError: an unknown name, or there is nothing in which both models stand.
    """
    frame = _frame(results, task=task, model=None, budget=budget)
    for noun, name in (("model", model), ("other", other)):
        if not isinstance(name, str):
            raise UserError(f"{noun}={brief(name)} is no name: compare takes the names of two models.")
        if name not in set(frame["model"]):
            raise UserError(nearest(name, set(frame["model"]), "model"))
    if model == other:
        raise UserError(f"{model} is compared with itself: name two models.")
    pairs = pairings(make_tables(frame[frame["model"].isin([model, other])]), model, other)
    if not pairs:
        raise UserError(
            f"{model} and {other} stand in no common table: run both on one task with the same budget and options."
        )
    return PairedModels(model, other, pairs, mean_pairings(pairs, model, other))


@dataclass(frozen=True, repr=False, eq=False)
class PairedModels(Shown):
    """Two models compared: table by table, and in mean skill over the tasks of a setting.

    Attributes:
        pairs: of each table that has both.
        means: of each setting in which several tasks have both.
    """

    model: str
    other: str
    pairs: list[Pairing]
    means: list[MeanPairing]

    def sections(self) -> list[Section]:
        """A table for each setting."""
        settings = list(dict.fromkeys(pair.table.setting_title for pair in self.pairs))
        headers = ["task", "metric", self.model, self.other, f"{self.model} - {self.other}", "p", "p (Holm)",
                   "seed pairs", "difference"]  # fmt: skip
        parts = []
        for setting in settings:
            rows = [self._row(pair) for pair in self.pairs if pair.table.setting_title == setting]
            tasks = [row[0] for row in rows]
            rows += [self._mean_row(mean, tasks) for mean in self.means if mean.title == setting]
            parts.append(Section(f"{self.model} and {self.other} · {setting}", headers, rows))
        return [*parts[:-1], parts[-1]._replace(notes=list(self._notes()))]

    def _notes(self) -> Iterator[str]:
        pairs = [pair for pair in self.pairs if pair.difference is not None]
        known = [pair.difference for pair in pairs if pair.difference is not None]
        if not known:
            return
        single = [len(pair.seeds) == 1 for pair in pairs]
        if all(single):
            yield "± is a 95% interval over test examples only: one seed can't tell how much training varies."
        else:
            yield "± is a 95% interval over seeds and test examples together" + (
                "; with one seed pair it is over test examples only." if any(single) else "."
            )
        for pair in pairs:
            if pair.unpaired:
                counts = [f"{count} of {label}" for label, count in pair.unpaired.items()]
                yield f"Seeds that only one of the two has are left out: {listed(counts)} on {pair.table.title}."
        if len(known) > 1:
            means = "; the means are a family of their own" if any(mean.difference for mean in self.means) else ""
            yield f"p (Holm) is adjusted over all {len(known)} tables that are compared{means}."
        if any(difference.better is None and not math.isnan(difference.p) for difference in known):
            yield "Where none was found there may be a smaller one than is named, which is found with 80% power."

    def _row(self, pair: Pairing) -> list[str]:
        measure = pair.table.measure
        metric = f"{measure.metric}{f' ({measure.unit})' if measure.unit else ''}" if measure.metric else NONE
        values = [format_value(value) for value in pair.values or ()] or [NONE, NONE]
        seeds = str(len(pair.seeds)) if pair.difference else NONE
        cells = _difference_cells(pair.difference, pair.least)
        outcome = cells[-1] if pair.difference else f"not compared: {pair.states}"
        return [pair.table.conditions.data_name, metric, *values, *cells[:-1], seeds, outcome]

    def _mean_row(self, mean: MeanPairing, shown: Sequence[str]) -> list[str]:
        cells = _difference_cells(mean.difference, mean.least)
        outcome = cells[-1] if mean.difference else "not compared: a run failed on one of these tasks"
        name = f"mean of these {len(shown)}" if list(mean.tasks) == list(shown) else f"mean of {listed(mean.tasks)}"
        return [name, "skill", NONE, NONE, *cells[:-1], NONE, outcome]

    def to_frame(self) -> pd.DataFrame:
        """One row per table; ``difference`` is in the metric, ``least`` the least one that is found with 80% power.

        ``interval_over`` says what ``low`` and ``high`` cover: one seed pair tells about test examples only.
        ``seeds_left_out`` counts the seeds that only one of the two has.
        """
        rows = []
        for pair in self.pairs:
            about, measure, difference = pair.table.conditions, pair.table.measure, pair.difference
            values = pair.values or (math.nan, math.nan)
            figures = {name: getattr(difference, name, math.nan) for name in DIFFERENCE}
            rows.append(
                {
                    "task": about.task, "budget": about.budget, "track": about.track, "table": pair.table.title,
                    "metric": measure.metric, "direction": measure.direction, "unit": measure.unit,
                    "model": self.model, "other": self.other, "model_score": values[0], "other_score": values[1],
                    **figures, "seed_pairs": len(pair.seeds) if difference else 0, "least": pair.least,
                    "better": difference.better if difference else None, "states": pair.states,
                    "interval_over": _covered(pair), "seeds_left_out": sum(pair.unpaired.values()),
                }
            )  # fmt: skip
        return _typed(rows, "seed_pairs", "seeds_left_out")


DIFFERENCE = ("difference", "low", "high", "p", "p_adjusted")


def _difference_cells(difference: Difference | None, least: float) -> list[str]:
    """The difference with its interval, p, adjusted p, and what that says."""
    if difference is None:
        return [NONE, NONE, NONE, ""]
    reach = (difference.high - difference.low) / 2
    figure = with_reach(difference.difference, reach, decimals([], [reach / 10]))  # two digits of the reach
    if math.isnan(difference.p):
        return [figure, NONE, NONE, "no p-value: it takes two seeds and the figures without each test group"]
    said = f"{difference.better} is better" if difference.better else f"none found (of {rounded(least, 2)} or more)"
    return [figure, _p_text(difference.p), _p_text(difference.p_adjusted), said]


def _covered(pair: Pairing) -> str | None:
    """What the interval of a difference is over; None where there is none."""
    if pair.difference is None or math.isnan(pair.difference.low):
        return None
    return "seeds and test examples" if len(pair.seeds) > 1 else "test examples"


def _p_text(p: float) -> str:
    """Two digits; more where these would be .05 itself, beside a verdict that depends on which side of it p is."""
    if p < 0.0001:
        return "< 0.0001"
    texts = [f"{p:.{digits}g}" for digits in (2, 3, 4, 5)]
    return next((text for text in texts if float(text) != ALPHA), texts[-1])
