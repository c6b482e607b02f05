"""The command line. Options are the fields of dataclasses; tyro turns them into a parser.

Nothing heavy is imported before a command runs, so that ``--help`` and mistakes answer at once. Every mistake is one
sentence on stderr. Exit codes: 0 done, 1 a cell failed, 2 the command was wrong, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import tyro

from seqbench.cli_commands import Leaderboard, List, Predict, Run
from seqbench.cli_data import Data, DataFetch, DataPrepare, DataShow
from seqbench.cli_probes import PROBES, Claims, Probe
from seqbench.errors import UserError

__all__ = ["main"]


class Command(Protocol):
    """What a command line turns into."""

    @property
    def plugin(self) -> tuple[Path, ...]:
        """Files to load first."""

    def __call__(self) -> int:
        """Do it; the exit code."""


Commands = dict[str, Callable[..., Command]]
DATA: Commands = {"show": DataShow, "prepare": DataPrepare, "fetch": DataFetch}
COMMANDS: Commands = {
    "run": Run, "list": List, "predict": Predict, "leaderboard": Leaderboard, "data": Data, "probe": Probe,
    "claims": Claims,
}  # fmt: skip
GROUPS: dict[str, Commands] = {"data": DATA, "probe": PROBES}  # commands of two words
DESCRIPTION = (
    "Train sequence models on real data and measure them. Exit codes: 0 done, 1 a cell failed, 2 wrong command."
)


def parse(argv: Sequence[str], prog: str) -> Command:
    """The command that ``argv`` asks for; raises `UserError` for a wrong one, SystemExit(0) after --help."""
    words = list(argv)
    if words[:1] and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words.insert(0, "run")
    commands = COMMANDS
    if words and words[0] in GROUPS:
        commands, prog, words = GROUPS[words[0]], f"{prog} {words[0]}", words[1:]
    if not words:
        words = ["--help"]
    elif words[0] not in commands and not words[0].startswith("-"):
        from seqbench.errors import nearest

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
    words = list(sys.argv[1:] if argv is None else argv)
    prog = Path(sys.argv[0]).name if argv is None else "seqbench"
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):  # a console that can't show a letter must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        command = parse(words, prog)
        if command.plugin:
            from seqbench.registry import load_plugin

            for path in command.plugin:
                load_plugin(path)
        return command()
    except UserError as error:
        code, message = 2, str(error)
        if debug:
            traceback.print_exc()
    except KeyboardInterrupt as error:
        code, message = (
            130,
            f"{str(error) or 'interrupted'}; records that stand are kept. The same command goes on from there.",
        )
    except BrokenPipeError:  # the reader of a pipe has gone; it needs no more
        sys.stdout = None
        return 0
    except OSError as error:  # a full disk, a folder that vanished: ours is whole or not there
        where = f" ({error.filename})" if error.filename else ""
        code, message = 1, f"{error.strerror or error}{where}; nothing torn was left. Mend that and run it again."
        if debug:
            raise
    except Exception as error:
        code, message = 1, f"unexpected {type(error).__name__}: {error}. Add --debug for the traceback, and report it."
        if debug:
            raise
    message = " ".join(message.split())  # one line, whatever a library wrote
    print(f"seqbench: {message}", file=sys.stderr)  # noqa: T201 - this is where a command talks to its user
    return code
