"""The command line: one module for each command, its options and what it does. Options are the fields of dataclasses,
which cyclopts turns into a parser.

Nothing heavy is imported before a command runs, so that ``--help`` and mistakes answer at once. Every mistake is one
sentence on stderr. Exit codes: 0 done, 1 a cell failed, 2 the command was wrong, 3 a regression, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_args

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from seqbench.cli.common import AUTO, FLAT, Common
from seqbench.errors import UserError, nearest, unknown_option
from seqbench.options import Parameter, unknown_choice
from seqbench.process import INTERRUPTED, complete_streams
from seqbench.registry import load_plugin

if TYPE_CHECKING:
    from cyclopts.argument import Argument
    from rich.console import Console

__all__ = ["main"]


class Command(Protocol):
    """What a command line turns into."""

    @property
    def common(self) -> Common:
        """Options of every command."""

    def __call__(self) -> int:
        """Do it; the exit code."""


Commands = Mapping[str, type[Any]]
# each is a module of this package
NAMES = ("run", "tune", "list", "predict", "check", "leaderboard", "submit", "export", "claims", "config")
GROUPS = {  # commands of two words
    "data": "Show what a task's data holds (`data show`), build its cache (`prepare`), get a canonical set (`fetch`).",
    "probe": "Measure one limit of models: `probe memory`, `gradient`, `cost`, `parallel`, `context`, or your own.",
    "regress": "Did a change make something slower or worse? `regress run --base REV`, or `regress compare`, `trend`.",
}
USUAL = {"regress": "compare"}  # the second word, where options follow the first
DESCRIPTION = (
    "Train sequence models on real data and measure them. Exit codes: 0 done, 1 a cell failed, 2 wrong command, "
    "3 a regression."
)


def parse(argv: Sequence[str], prog: str) -> Command:
    """The command that ``argv`` asks for; raises `UserError` for a wrong one, SystemExit(0) after --help."""
    words = _command_first(argv) or ["--help"]
    if words[0].startswith("-") and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "run")
    if words[0] in GROUPS:
        group, words = words[0], words[1:] or ["--help"]
        if group in USUAL and words[0].startswith("-") and words[0] not in ("-h", "--help"):
            words.insert(0, USUAL[group])
        prog, app, commands = f"{prog} {group}", _app(f"{prog} {group}", GROUPS[group]), _group(group, words)
        names, noun = [*commands], "probe" if group == "probe" else f"{group} command"
    else:
        names, noun, app = [*NAMES, *GROUPS], "command", _app(prog, DESCRIPTION)
        everything = words[0].startswith("-")  # the help lists them all; else one is read, and no other
        commands = {name: _module(name).COMMAND for name in NAMES if everything or name == words[0]}
        for name, about in GROUPS.items():
            app.command(_app(name, about), name=name)
    if not words[0].startswith("-") and words[0] not in names:
        raise UserError(nearest(words[0], names, noun))
    for name, command in commands.items():
        app.command(_maker(command), name=name)
    app.config = [*(_filled_in(words) if words[0] == "run" else ()), _check_tokens]
    return _bound(app, f"{prog} {words[0]}", words)


def _command_first(argv: Sequence[str]) -> list[str]:
    """``argv`` with options that stand before the command put behind it: ``--json list`` is meant as it says."""
    words = [*argv]
    at = 0
    while at < len(words) and words[at].partition("=")[0] in ("--json", "--debug", "--plugin"):
        at += 2 if words[at] == "--plugin" else 1
    return words[at:] + words[:at] if at < len(words) and words[at] in (*NAMES, *GROUPS) else words


def _filled_in(words: list[str]) -> list[Any]:
    """For the parser, what the file of ``--config`` says, and what neither says of the recipe that one of them names.

    The task's options that ``words`` do not name go to these.
    """
    files = _values(words, "--config")[-1:]
    settings = _file_settings(words, files[0]) if files else {}
    names = _values(words, "--recipe")[-1:] or ([settings["recipe"]] if "recipe" in settings else [])
    if names and not {"--help", "-h"} & {*words}:
        settings = {**_recipe_settings(words, str(names[0]), settings), **settings}
    if not settings:
        return []
    from cyclopts.config import Dict

    return [Dict(settings, source=files[0] if files else f"recipe {names[0]}", use_commands_as_keys=False)]


def _recipe_settings(words: list[str], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe ``name`` adds to ``words`` and to the ``settings`` of a file, as a file would say it."""
    from seqbench.config import FLAGS
    from seqbench.task import filled

    for path in _values(words, "--plugin"):  # a user's own task may bring a recipe
        load_plugin(path)
    given: dict[str, Any] = {
        flag: values[-1] for flag in (*FLAGS, "budget", "params") if (values := _values(words, _flag(flag)))
    }
    given = {**{key.replace("-", "_"): value for key, value in settings.items()}, **given}
    given["option"] = tuple(_values(words, "--option"))
    for option in filled(name, given)["option"][len(given["option"]) :]:
        words += ["--option", option]
    recipe = filled(name, {key: given[key] for key in ("budget", "params") if key in given})
    recipe.pop("option")
    return {
        key.replace("_", "-"): ",".join(map(str, value)) if isinstance(value, tuple) else value
        for key, value in recipe.items()
        if key not in given or key == "recipe"
    }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _file_settings(words: list[str], file: str) -> dict[str, Any]:
    """What the ``file`` of ``--config`` says, but for what is put into ``words``."""
    from seqbench.cli.config import read_settings
    from seqbench.config import FLAGS

    settings = read_settings(Path(file))
    given = {text.partition("=")[0].replace("-", "_") for text in _values(words, "--option")}
    given |= {name for name in FLAGS if _values(words, _flag(name))}
    for option in settings.pop("option", ()):
        if option.partition("=")[0].replace("-", "_") not in given:
            words += ["--option", option]
    if settings.get("test") == "" and not _values(words, "--test"):
        raise UserError(f"--config {file} is of a run whose test was a second file: give --test FILE, too.")
    data = settings.pop("data", None)  # the parser would take the name for the command's and leave it out
    if data is not None and not _values(words, "--data"):
        words += ["--data", str(data)]
    return settings


def _check_tokens(app: App, commands: Sequence[str], arguments: Sequence[Argument]) -> None:
    """Refuse what the parser would take: nothing as a value, and a whole number with a fraction, which it rounds."""
    for argument in arguments:
        kinds = (argument.hint, *get_args(argument.hint))
        whole = int in kinds and argument.parameter.converter is None
        for token in argument.tokens:
            name = token.keyword or _shown(argument)
            if token.value == "" and bool not in kinds:
                raise UserError(f"{name.strip('[]')} is empty: give a value.")
            if whole and not re.fullmatch(r"[+-]?[0-9_]+", token.value):
                raise UserError(f"{name.strip('[]')} {token.value}: that is not a whole number.")


def _app(name: str, about: str) -> App:
    return App(
        name=name,
        help=about,
        help_format="plaintext",
        version=_version,
        default_parameter=Parameter(negative="", show_default=_default_text),
        group_parameters=Group("This command", sort_key=5),
        group_arguments=Group("Arguments", sort_key=0),
    )


def _version() -> str:
    from seqbench.environment import seqbench_version  # package metadata, which only this asks for

    return seqbench_version()


def _console(words: Sequence[str]) -> Console | None:
    """What prints the help: in bold and dim letters, which are seen on light terminals, too; cyclopts has colours."""
    if not {"--help", "-h"} & {*words}:
        return None
    from rich.console import Console
    from rich.theme import Theme

    bold = dict.fromkeys(("name", "required_marker", "required"), "bold")
    styles = {**bold, **dict.fromkeys(("choices", "default", "env_var"), "dim")}
    return Console(theme=Theme({f"cyclopts.{name}": style for name, style in styles.items()}))


def _default_text(value: Any) -> str | None:
    """A default as --help shows it; one that says nothing is left out."""
    if value is None or value is False or value in ((), ""):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _maker(command: type[Any]) -> Callable[..., Any]:
    """A function whose parameters are the fields of ``command``, for the parser."""

    def make(options: Any) -> Any:
        return command() if options is None else options

    make.__annotations__ = {"options": Annotated[command, FLAT]}
    if not any(_needed(item) for item in dataclasses.fields(command)):
        make.__annotations__ = {"options": Annotated[command | None, FLAT]}
        make.__defaults__ = (None,)  # cyclopts wants one where nothing need be given
    make.__doc__ = command.__doc__
    return make


def _needed(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _bound(app: App, prog: str, words: Sequence[str]) -> Command:
    """What ``words`` say to ``app``."""
    try:
        make, bound, _ = app.parse_args(_today(words), console=_console(words), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UserError(f"{_sentence(error)} See {prog} --help.") from None
    made = make(*bound.args, **bound.kwargs)
    if made is None:  # that was --help or --version
        raise SystemExit(0)
    command: Command = made
    return command


OLD = {("--plots",): ("--plot",), ("--perturb", "True"): ("--perturb",), ("--perturb", "False"): ("--no-perturb",)}


def _today(words: Sequence[str]) -> list[str]:
    """``words`` with old spellings as they are written today, which a note says, and a place after each --plot."""
    new = [*words]
    for old, now in OLD.items():
        for at in range(len(new) - len(old), -1, -1):
            if tuple(new[at : at + len(old)]) == old:
                new[at : at + len(old)] = now
                print(f"seqbench: {' '.join(old)} is written {' '.join(now)} now.", file=sys.stderr)
    return _with_places(new)


FOLDERS = ("leaderboard", "trend")  # commands that draw into a folder


def _with_places(words: Sequence[str]) -> list[str]:
    """``words`` with ``auto`` after a --plot or --tuned that no place follows: the parser has no option that may lack a
    value.
    """
    filled: list[str] = []
    for word, after in zip(words, (*words[1:], "-"), strict=True):
        filled.append(word)
        a_folder = words[0] in FOLDERS or word == "--tuned"
        a_place = not after.startswith("-") and (a_folder or "." in after or "/" in after)
        if word in ("--plot", "--tuned") and not a_place:
            filled.append(AUTO)
    return filled


def _sentence(error: CycloptsError) -> str:
    """What was wrong with the words, and what to write instead."""
    if isinstance(error, UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0].strip("[]")
        names = [name for argument in error.argument_collection for name in argument.names if name.startswith("--")]
        where = "" if error.token.source == "cli" else f"{error.token.source}: "
        return where + unknown_option(word, names)
    if isinstance(error, UnusedCliTokensError):
        return f"nothing here takes the word {(error.unused_tokens or ['?'])[0]!r}: options begin with two dashes."
    if isinstance(error, RepeatArgumentError):
        name = error.token.keyword
        several = ", several names with commas" if name in ("--task", "--model") else ""
        return f"{name} was given twice: give it once{several}."
    if error.argument is not None and isinstance(error, MissingArgumentError):
        return _missing(error, error.argument)
    if error.argument is not None and isinstance(error, CoercionError) and error.token is not None:
        return _not_read(error, error.argument, error.token.value)
    return str(error)


def _missing(error: MissingArgumentError, argument: Argument) -> str:
    if error.keyword or argument.tokens:
        return f"{error.keyword or _shown(argument)} needs a value after it."
    unread = [word for word in error.unused_tokens or () if re.match("-+[a-z]", word)]
    if unread:  # a misspelt option is most often the one that is missing
        known = error.app.assemble_argument_collection() if error.app else [argument]
        return unknown_option(unread[0].partition("=")[0], [name for one in known for name in one.names])
    parts = [one for one in argument.children_recursive if one.required and not one.children] or [argument]
    return f"missing: {' and '.join(map(_shown, parts))}."


def _shown(argument: Argument) -> str:
    """An option as it is written, or what stands for a word without dashes in the help."""
    positional = argument.field_info.kind is not argument.field_info.KEYWORD_ONLY
    return argument.name.lstrip("-").upper() if positional else argument.name


def _not_read(error: CoercionError, argument: Argument, value: str) -> str:
    choices, name = get_args(error.target_type), _shown(argument)
    if choices and all(isinstance(choice, str) for choice in choices):
        return unknown_choice(name.lstrip("-") if name.startswith("--") else "word", value, choices)
    kind = {int: "a whole number", float: "a number"}.get(error.target_type or object)
    cause = error.__cause__
    why = str(cause) if cause and not isinstance(cause, json.JSONDecodeError) else "that can't be read"
    return f"{name} {value}: that is not {kind}." if kind else f"{name} {value}: {why}."


def _module(name: str) -> Any:
    return importlib.import_module(f"seqbench.cli.{name}")


def _group(name: str, words: Sequence[str]) -> Commands:
    """The commands whose first word is ``name``, of which ``words`` follow."""
    if name == "probe":
        for path in _values(words, "--plugin"):  # a user's own probe is a command, too
            load_plugin(path)
    commands: Commands = _module(name).group(words[0])
    return commands


def _values(words: Sequence[str], option: str) -> list[str]:
    """What follows ``option`` in ``words``, which are not parsed yet."""
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word == option]
    return after + [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    complete_streams()
    words = [*(sys.argv[1:] if argv is None else argv)]
    prog = Path(sys.argv[0]).name if argv is None else "seqbench"
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):  # a console that can't show a letter must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        if strange := next((word for word in words if "\0" in word), None):
            raise UserError(f"{strange!r} holds the character NUL, which no name and no path can: leave it out.")
        command = parse(words, prog)
        if getattr(command, "loads_plugins", True):
            for path in command.common.plugin:
                load_plugin(path)
        return command()
    except UserError as error:
        code, message = 2, str(error)
        if debug:
            traceback.print_exc()
    except KeyboardInterrupt as error:
        usual = "interrupted; what is written stays, and nothing is half-written. Run the same command again."
        code, message = INTERRUPTED, str(error) or usual
    except BrokenPipeError:  # the reader of a pipe has gone; it needs no more
        sys.stdout = None
        return 0
    except OSError as error:  # a full disk, a folder that vanished: ours is whole or not there
        where = f" ({error.filename})" if error.filename else ""
        code, message = (
            1,
            f"{error.strerror or error}{where}; no partial file was written. Fix this and run the command again.",
        )
        if debug:
            raise
    except Exception as error:
        code, message = 1, f"unexpected {type(error).__name__}: {error}. Add --debug for the traceback, and report it."
        if debug:
            raise
    message = " ".join(f"seqbench: {message}".split())  # one line, whatever a library wrote
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        message = textwrap.fill(message, width, break_long_words=False, break_on_hyphens=False)
    print(message, file=sys.stderr)
    return code
