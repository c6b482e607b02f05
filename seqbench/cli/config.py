"""`config RECORD`: the settings of a run as a file that `run --config` reads."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqbench.cli.common import FLAT, Common, show_json
from seqbench.config import RunConfig
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.options import OUTPUT, Parameter

if TYPE_CHECKING:  # --help answers before any of these is imported
    from seqbench.jobs.record import RunRecord

__all__ = ["COMMAND", "Config", "read_settings"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write the settings of a record as a TOML file, from which `run --config FILE` runs the same again."""

    record: Path = field(kw_only=False)
    """The record.json of a run, or its folder."""
    out: Annotated[Path | None, Parameter(group=OUTPUT, metavar="FILE")] = None
    """File to write; by default it is printed."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print it, or write it and say where."""
        from seqbench.jobs.record import RunRecord
        from seqbench.jobs.store import Store

        folder = self.record.parent if self.record.name == "record.json" else self.record
        record = Store.read(folder)
        if not isinstance(record, RunRecord):
            raise UserError(f"{folder} holds a measurement of a probe, which has no settings of a run.")
        text = settings_text(record)
        if self.out is None:
            show_json(tomllib.loads(text)) if self.common.json else print(text, end="")
            return 0
        try:
            replace_file(self.out, lambda file: file.write(text.encode()))
        except OSError as error:
            raise UserError(f"{self.out} can't be written ({error.strerror}): choose another --out.") from None
        show_json({"out": self.out}) if self.common.json else print(self.out)
        return 0


COMMAND = Config


def settings_text(record: RunRecord) -> str:
    """The options that give ``record`` again, as TOML."""
    import tomli_w

    known = {item.name for item in dataclasses.fields(RunConfig)}
    config = {name: value for name, value in record.config.items() if name in known and value is not None}
    if "params" in config:
        config.pop("hidden", None)
    settings = {"task": record.task.name, "model": record.model.name, **config, "device": record.environment.device}
    if record.task.source != "embedded":
        settings["source"] = record.task.source
    lines = [f"# {record.task.name} {record.model.name}, {record.finished}, seqbench {record.environment.seqbench}"]
    if record.task.source == "path":
        lines.append("# Name your own file, by data = FILE below or by --data FILE.")
        if record.task.dataset is not None:
            settings["name"] = record.task.dataset
    if record.task.test_file:
        lines.append("# The test was a second file: name it, too, by test = FILE below or by --test FILE.")
        settings["test"] = ""  # refused until somebody names it: without it the split would be another one
    options = {name: value for name, value in record.task.options.items() if value is not None}
    return "\n".join([*lines, tomli_w.dumps({**_dashed(settings), "option": options})])


def _dashed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in settings.items()}


def _texts(value: Any) -> Iterator[str]:
    """All texts in ``value``, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def read_settings(path: Path) -> dict[str, Any]:
    """What ``path`` says, as options have it: lists joined with commas, the table ``option`` as name=value.

    Raises:
        UserError: it can't be read or is not TOML.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path} can't be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is not TOML: {error}.") from None
    if "\0" in "".join(_texts(raw)):
        raise UserError(f"--config {path} holds the character NUL, which no name and no path can: leave it out.")
    settings = {name.replace("_", "-"): value for name, value in raw.items()}
    if len(settings) < len(raw):
        raise UserError(f"--config {path} says the same option twice, with - and with _: say it once.")
    if "config" in settings:
        raise UserError(f"--config {path} names another file of options: write these into one.")
    options = settings.get("option", {})
    tables = [name for name, value in settings.items() if isinstance(value, dict)]
    if not isinstance(options, dict) or tables not in ([], ["option"]):
        raise UserError(f"--config {path}: write options as name = value, and the task's own in a table [option].")
    if "option" in settings:
        settings["option"] = [f"{name}={value}" for name, value in options.items()]
    several = ("task", "model", "hidden", "dense", "dropout", "zoneout")
    return {
        name: ",".join(map(str, value)) if name in several and isinstance(value, list) else value
        for name, value in settings.items()
    }
