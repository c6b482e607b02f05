"""seqbench from a checkout: ``python run_bench.py --task dna --model lstm``."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # until the command sees to it Ctrl-C just ends the process, as it ends other programs: there is nothing to lose
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from pathlib import Path

import seqbench

if __name__ == "__main__":
    # where only the requirements are installed, seqbench.tasks is the folder tasks/ beside this file
    seqbench.__path__.append(str(Path(__file__).resolve().parent))
    from seqbench.__main__ import command

    sys.exit(command())
