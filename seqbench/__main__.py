"""The command: what `run_bench.py`, the script `seqbench` and ``python -m seqbench`` start.

It is only what stands around the command line: Ctrl-C while that is imported and when it has done its work.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["command"]


def command() -> int:
    """Run the command line of this process; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # for as long as even the next line takes
    from seqbench.process import INTERRUPTED, interrupt_cleanly

    interrupt_cleanly()
    try:
        try:
            from seqbench.cli import main

            return main()
        finally:  # all is done and said: nothing is left that Ctrl-C could end, but a traceback of it would be shown
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:  # once more, in the last words
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(command())
