"""The gate: did a change make something slower, larger or worse? Two sides, measured in turns on one machine.

`timings` reads what pytest-benchmark wrote, `quality` compares records, `verdict` says which differences are real,
`page` writes them down, `revisions` installs two of a repository apart, `measure` measures them in turns, and `trend`
puts many comparisons in a row.
"""
