"""The rows of the table: which model is trained on what. Nothing is imported, as every peer's process reads this."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "TINY", "TITLES", "Row", "pick"]


@dataclass(frozen=True)
class Row:
    """One model on one set of data.

    Attributes:
        group: what the rows of one block of the table share; with the model it names the row.
        model: as seqbench names it.
        task: whose real data is read; None: random features, and the one target of each example is random, too.
        widths: of the layers.
        embeds: whether a linear layer or an embedding stands before the first layer.
        batch, length, features, examples: B, T, D and N of random features.
    """

    group: str
    model: str
    task: str | None = None
    widths: tuple[int, ...] = (128,)
    embeds: bool = True
    batch: int = 0
    length: int = 0
    features: int = 0
    examples: int = 2048

    @property
    def name(self) -> str:
        """As the table and ``--rows`` have it."""
        return f"{self.group} {self.model}"


def _rows() -> tuple[Row, ...]:
    stack = [Row("stack", model, widths=(128, 64), batch=32, length=60, features=5) for model in ("rnn", "lstm", "gru")]
    layer = [
        Row("layer", model, embeds=False, batch=64, length=200, features=64)
        for model in ("rnn", "lstm", "gru", "bilstm")
    ]
    dna = [Row("dna", model, "dna") for model in ("rnn", "lstm", "gru", "bilstm", "transformer")]
    textgen = [Row("textgen", model, "textgen") for model in ("rnn", "lstm", "gru", "transformer")]
    return *stack, *layer, *dna, *textgen


ROWS = _rows()
TITLES = {
    "stack": "two layers, 128 and 64 wide, 5 features, T 60, B 32",
    "layer": "one layer, 128 wide, 64 features, T 200, B 64",
    "dna": "the task dna, 128 wide, T 80, B 64",
    "textgen": "the task textgen, 128 wide, T 128, B 32",
}
# for tests, seconds in all: every kind of layer, and both ways to read the sequence
TINY = (
    *(Row("tiny", model, widths=(16, 8), batch=4, length=6, features=3, examples=64) for model in ("rnn", "gru")),
    *(
        Row("tiny", m, widths=(8,), embeds=False, batch=4, length=6, features=3, examples=64)
        for m in ("lstm", "bilstm")
    ),
    Row("tiny", "transformer", widths=(16, 16), batch=4, length=6, features=3, examples=64),
)


def pick(names: str) -> list[Row]:
    """Rows by name or by group, several with commas; ``all`` are those of the table.

    Raises:
        SystemExit: there is no such row.
    """
    if names == "all":
        return list(ROWS)
    chosen: list[Row] = []
    for name in (part.strip() for part in names.split(",")):
        found = [row for row in (*ROWS, *TINY) if name in (row.name, row.group)]
        if not found:
            raise SystemExit(f"--rows {name}: there is no such row; there are {', '.join(row.name for row in ROWS)}.")
        chosen += [row for row in found if row not in chosen]
    return chosen
