"""seqbench from a checkout: ``python run_bench.py --task dna --model lstm``."""

import sys
from pathlib import Path

import seqbench

if __name__ == "__main__":
    # where only the requirements are installed, seqbench.tasks is the folder tasks/ beside this file
    seqbench.__path__.append(str(Path(__file__).resolve().parent))
    from seqbench.__main__ import command

    sys.exit(command())
