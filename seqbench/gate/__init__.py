"""The gate: did a change make something slower, larger or worse? Two sides, measured in turns on one machine.

`timings` reads what pytest-benchmark wrote, `quality` compares records, `verdict` says which differences are real,
`page` writes them down, `measure` measures two revisions, and `trend` puts many comparisons in a row.
"""
