"""The process that a command runs in: its standard streams, and what Ctrl-C does to it.

Ctrl-C is a KeyboardInterrupt wherever the program happens to be. In training that would tear a step apart, and in an
import or a destructor it can be swallowed or come out as another error, so there it is seen to in another way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["INTERRUPTED", "CtrlC", "complete_streams", "interrupt_cleanly"]

INTERRUPTED = 130  # exit code, as a shell has it


def complete_streams() -> None:
    """Put the null device in the place of standard streams that were closed, as cron and daemons may leave them.

    It takes their numbers before a file can: whatever writes to standard error by its number would write into that.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def interrupt_cleanly() -> None:
    """From here on Ctrl-C ends the process at once if it is importing, and is never lost where nothing can be raised.

    Elsewhere it is the KeyboardInterrupt that it was; where it is ignored it stays so.
    """
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _press_again


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Nothing is lost that was only being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with contextlib.suppress(OSError):
                show = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""  # what a live display has hidden: the cursor
                os.write(2, show + b"seqbench: interrupted\n")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _press_again(unraisable: Any) -> None:
    """What a destructor raises can only be printed; a Ctrl-C that came to it is sent again, to what runs next."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):  # the value may be None
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))  # when this destructor is done
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(unraisable)


class CtrlC:
    """Where it is entered Ctrl-C is only noted in ``pressed``; a second one does what Ctrl-C did before.

    Signals come to the main thread alone, so in others nothing changes; nor does it where Ctrl-C is ignored, as in the
    background of a shell. What was pressed and not yet raised as an interrupt is raised on the way out, except in place
    of an error of the disk.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._before: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> CtrlC:
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and threading.current_thread() is threading.main_thread():
            self._before = before
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.pressed = self.pressed, True
        if again and self._before is not None:
            self._before(number, frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self.pressed and not isinstance(error, (KeyboardInterrupt, OSError)):
            raise KeyboardInterrupt
