"""A terminal for tests: a command runs in a pseudo-terminal of some columns, and what its screen shows is read."""

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from dataclasses import dataclass, field

import pyte
from conftest import ROOT

LINES = 2000  # so high that nothing scrolls away


@dataclass
class Shown:
    """What a command left on the screen, all screens before that, its exit code, and the bytes that it wrote."""

    lines: list[str]
    screens: list[list[str]] = field(default_factory=list)
    code: int = 0
    raw: bytes = b""

    @property
    def text(self):
        return "\n".join(self.lines)


def run_bench(*words, **given):
    """``run_bench.py WORDS`` in a terminal; see `in_a_terminal`."""
    return in_a_terminal([sys.executable, str(ROOT / "run_bench.py"), *map(str, words)], **given)


def in_a_terminal(command, *, columns=80, lines=LINES, cwd=None, env=None, watch=False, interrupt=None, timeout=300):
    """Run ``command`` in a terminal of so many ``columns``.

    ``env`` changes its environment (None takes a variable away); with ``watch`` every screen is kept; ``interrupt`` is
    what on the screen is answered with Ctrl-C.
    """
    pid, terminal = pty.fork()
    if pid == 0:  # the child: nothing but what leads to the command
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            changes = {"TERM": "xterm-256color", "NO_COLOR": None, "COLUMNS": None, "LINES": None, **(env or {})}
            # handed over whole: readline, which pytest imports, sets COLUMNS where os.environ does not see it
            known = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
            os.chdir(cwd or ".")
            os.execvpe(command[0], command, known)
        finally:
            os._exit(127)
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    shown, end = Shown([]), time.monotonic() + timeout
    while True:
        assert time.monotonic() < end, "\n".join(rows(screen))  # something is written at least now and then
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not data:
            break
        shown.raw += data
        stream.feed(data)
        if watch:
            shown.screens.append(rows(screen))
        if interrupt is not None and any(interrupt in line for line in rows(screen)):
            interrupt = None
            os.write(terminal, b"\x03")
    os.close(terminal)
    shown.code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    shown.lines = rows(screen)
    return shown


def rows(screen):
    """Lines of a screen without what is blank at their ends, and without the blank ones below."""
    used = [y for y, line in screen.buffer.items() if line]  # screen.display would fill what is blank, slowly
    lines = [
        "".join(screen.buffer[y][x].data for x in range(screen.columns)).rstrip()
        for y in range(max(used, default=-1) + 1)
    ]
    while lines and not lines[-1]:
        lines.pop()
    return lines
