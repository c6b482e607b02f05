"""The command line: one module for each command, its options and what it does. Options are the fields of dataclasses,
which tyro turns into a parser.

Nothing heavy is imported before a command runs, so that ``--help`` and mistakes answer at once. Every mistake is one
sentence on stderr. Exit codes: 0 done, 1 a cell failed, 2 the command was wrong, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import io
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import tyro

from seqbench.cli.common import Common
from seqbench.errors import UserError, nearest
from seqbench.process import INTERRUPTED, complete_streams
from seqbench.registry import load_plugin

__all__ = ["main"]


class Command(Protocol):
    """What a command line turns into."""

    @property
    def common(self) -> Common:
        """Options of every command."""

    def __call__(self) -> int:
        """Do it; the exit code."""


Commands = dict[str, Callable[..., Command]]
NAMES = ("run", "list", "predict", "leaderboard", "claims")  # each is a module of this package; so are:
GROUPS = {  # commands of two words
    "data": "Show what a task's data holds (`data show`), build its cache (`prepare`), get a canonical set (`fetch`).",
    "probe": "Measure one limit of models: `probe memory`, `gradient`, `cost`, `parallel`, `context`, or your own.",
}
DESCRIPTION = (
    "Train sequence models on real data and measure them. Exit codes: 0 done, 1 a cell failed, 2 wrong command."
)


def parse(argv: Sequence[str], prog: str) -> Command:
    """The command that ``argv`` asks for; raises `UserError` for a wrong one, SystemExit(0) after --help."""
    words = [*argv]  # not list(argv): the module of that command has taken the name
    if words[:1] and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words.insert(0, "run")
    if words and words[0] in GROUPS:
        commands = _group(words)
        prog, words = f"{prog} {words[0]}", words[1:]
    else:
        commands = {name: _module(name).COMMAND for name in NAMES}
        commands |= {name: _described(name, about) for name, about in GROUPS.items()}
    if not words:
        words = ["--help"]
    elif words[0] not in commands and not words[0].startswith("-"):
        raise UserError(nearest(words[0], commands, "command"))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command: Command = tyro.extras.subcommand_cli_from_dict(
                commands, args=words, prog=prog, description=DESCRIPTION
            )
            return command
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise UserError(_sentence(complaint.getvalue(), f"{prog} {words[0]}")) from None


def _module(name: str) -> Any:
    return importlib.import_module(f"seqbench.cli.{name}")


def _group(words: Sequence[str]) -> Commands:
    """The commands whose first word is the first of ``words``."""
    for path in _plugins(words):  # a user's own probe is a command, too
        load_plugin(path)
    commands: Commands = _module(words[0]).group()
    return commands


def _described(name: str, about: str) -> type[Any]:
    """What stands for a group of commands in the list of all."""
    command = dataclasses.make_dataclass(name, [])
    command.__doc__ = about
    return command


def _plugins(words: Sequence[str]) -> list[str]:
    """The files that ``--plugin`` names in ``words``."""
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--plugin"]
    return after + [word.partition("=")[2] for word in words if word.startswith("--plugin=")]


def _sentence(complaint: str, prog: str) -> str:
    """One sentence out of the box that tyro draws around what it did not understand."""
    lines = [re.sub(r"[╭╮╰╯│─]+", " ", line).strip() for line in complaint.splitlines()[1:]]
    blank = lines.index("") if "" in lines else len(lines)  # a rule ends the complaint and begins the advice
    text = " ".join(lines[:blank]) or "the command can't be understood"
    advice = [word for line in lines[blank:] for word in line.split()[:1] if word.startswith("--")]
    if "Unrecognized" in text and advice:
        text += f": did you mean {' or '.join(dict.fromkeys(advice))}?"
    if text.startswith("Missing from"):
        text = f"missing: {', '.join(re.findall(r'(?<= )--[a-z-]+', text)) or 'the name of a task'}"
    choices = re.search(r"invalid choice '([^']*)'.*Expected one of \((.*)\)", text)
    if choices:
        close = difflib.get_close_matches(choices[1], re.findall(r"'([^']*)'", choices[2]), n=1)
        text += f" Did you mean {close[0]}?" if close else ""
    return f"{text.rstrip('. ')}{'' if text.endswith('?') else '.'} See {prog} --help."


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
        command = parse(words, prog)
        for path in command.common.plugin:
            load_plugin(path)
        return command()
    except UserError as error:
        code, message = 2, str(error)
        if debug:
            traceback.print_exc()
    except KeyboardInterrupt as error:
        usual = "interrupted; records that stand are kept. The same command goes on with the rest."
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
    message = " ".join(message.split())  # one line, whatever a library wrote
    print(f"seqbench: {message}", file=sys.stderr)
    return code
