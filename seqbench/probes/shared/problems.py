"""Made problems whose difficulty is a length: recall, adding, copy, selective recall; bits to say again, and products.

Each draws fresh data on the device and knows what a learner without memory gets, so that a score is 0 for remembering
nothing and 1 for a perfect answer (`training.score_of`). None can be answered from its last step alone. Those of the
probe `memory` are in `PROBLEMS`; `Bits` and `Product` belong to the probes `copy` and `tracking`, `Reber` and `Digits`,
of which the second is a set of real data, to `published`.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from seqbench.models.heads import Shape

__all__ = [
    "PROBLEMS",
    "Adding",
    "Bits",
    "Copy",
    "Digits",
    "Problem",
    "Product",
    "Queries",
    "Reber",
    "Recall",
    "Selective",
    "make_problem",
]

SYMBOLS = 8  # that may have to be remembered; as many to distract
COPIED = 10  # symbols that `Copy` asks for
WIDE = 8  # bits of each vector of `Bits`
SCORED = 8  # steps at the end by which `Product` is scored
AT_ONCE = 1 << 17  # steps of all sequences scored together: what an LSTM of width 128 keeps of them takes 0.5 GiB
CHECKED = 256  # sequences scored together at most
Device = torch.device | str


class Problem(ABC):
    """A made problem. Unless a subclass says otherwise, one symbol must be named after the last step.

    Attributes:
        name: its own.
        axis: what a length counts: ``steps`` of time or ``pairs`` to hold.
        memoryless: who scores 0, in a few words.
        least: the shortest length that it can have.
        share: whether a quality is a share of right answers, rather than made of a squared error.
    """

    name: ClassVar[str]
    axis: ClassVar[str] = "steps"
    memoryless: ClassVar[str]
    least: ClassVar[int] = 1
    share: ClassVar[bool] = True

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """What goes into a net and what comes out."""

    def steps(self, length: int) -> int:
        """Steps T of a sequence of ``length``: the query follows."""
        return length + 1

    @abstractmethod
    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """Fresh inputs (B, T) or (B, T, D) and targets (B, ...), made on the device, where ``generator`` lives too."""

    def tests(self, sequences: int, length: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """So many fresh sequences in batches, or all those that a set has for its test."""
        together = max(1, min(CHECKED, AT_ONCE // max(1, self.steps(length))))
        for start in range(0, sequences, together):
            yield self.draw(min(together, sequences - start), length, generator, generator.device)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """What training lowers, mean over the batch (and steps): cross-entropy in nats, or squared error."""
        return F.cross_entropy(output, targets)

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) quality of each sequence: 1 is perfect, `chance` is the mean without memory."""
        return (output.argmax(dim=1) == targets).float()

    def chance(self, length: int) -> float:
        """The mean quality of the best predictor that holds nothing (see `memoryless`)."""
        return 1 / SYMBOLS

    def memoryless_loss(self, length: int) -> float:
        """The least `loss` of a predictor that holds nothing."""
        return -math.log(self.chance(length))


@dataclass(frozen=True)
class Recall(Problem):
    """One symbol of 8, then noise, then a query: which symbol was it? Length L is the steps from symbol to query.

    Inputs are the tokens ``3 12 9 14 9 16`` (L = 5: symbol 3, four of a noise alphabet of 8 that shares nothing with
    the symbols, the query 16), the target 3. With ``blank`` all noise is one token, so nothing but time distracts.
    """

    blank: bool = False
    name: ClassVar[str] = "recall"
    memoryless: ClassVar[str] = "guessing: 1/8 right"

    @property
    def noise(self) -> int:
        """Size of the noise alphabet."""
        return 1 if self.blank else SYMBOLS

    @property
    def shape(self) -> Shape:
        """Tokens in, 8 logits out after the last step."""
        return Shape(tokens=SYMBOLS + self.noise + 1, features=0, outputs=(SYMBOLS,))

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, L + 1) tokens and (B,) symbols."""
        high = SYMBOLS + self.noise
        inputs = torch.randint(SYMBOLS, high, (batch, length + 1), generator=generator, device=device)
        inputs[:, 0] = torch.randint(SYMBOLS, (batch,), generator=generator, device=device)
        inputs[:, -1] = high
        return inputs, inputs[:, 0].clone()


@dataclass(frozen=True)
class Adding(Problem):
    """The sum of two marked values among L (Hochreiter and Schmidhuber 1997, section 5.4; in the form since used).

    Inputs are L steps of (value, marker), values uniform in [0, 1), one marker in each half; the target is the sum of
    the two marked values. The quality is 1 - 6 squared error: the constant guess of 1 errs by 1/6, and a learner that
    sees only the last W steps gets W/L on average. With ``anywhere`` the two markers may stand at any two steps, as Bai
    et al. 2018 have it.
    """

    anywhere: bool = False
    name: ClassVar[str] = "adding"
    memoryless: ClassVar[str] = "constant guess: MSE 1/6"
    least: ClassVar[int] = 2
    share: ClassVar[bool] = False

    @property
    def shape(self) -> Shape:
        """Two features in, one number out after the last step."""
        return Shape(tokens=0, features=2, outputs=(1,))

    def steps(self, length: int) -> int:
        """L."""
        return length

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, L, 2) features and (B,) sums."""
        values = torch.rand(batch, length, generator=generator, device=device)
        half = length // 2
        ends = ((0, length), (0, length - 1)) if self.anywhere else ((0, half), (half, length))
        first, second = (torch.randint(*end, (batch, 1), generator=generator, device=device) for end in ends)
        if self.anywhere:
            second += second >= first  # another one
        places = torch.cat([first, second], dim=1)
        markers = torch.zeros_like(values).scatter_(1, places, 1.0)
        return torch.stack([values, markers], dim=2), values.gather(1, places).sum(dim=1)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error."""
        return F.mse_loss(output[:, 0], targets)

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) 1 - 6 squared error."""
        return 1 - (output[:, 0] - targets).square() / self.memoryless_loss(0)

    def chance(self, length: int) -> float:
        """0, by the scale of the quality."""
        return 0.0

    def memoryless_loss(self, length: int) -> float:
        """1/6, the variance of a sum of two uniform numbers."""
        return 1 / 6


@dataclass(frozen=True)
class Copy(Problem):
    """Ten symbols of 8 to say again after T steps (Hochreiter and Schmidhuber 1997; Arjovsky et al. 2016, section 5.1).

    Inputs are T + 20 tokens: 10 symbols, T - 1 blanks, a delimiter, 10 blanks. The targets are blanks, but the ten
    symbols at the last ten steps, so each is held for T + 10 steps. The loss counts every step, the quality the last
    ten only. Who holds nothing has a loss of 10 ln 8 / (T + 20), which looks small and is chance. Where they are
    ``marked`` the last eleven inputs are the delimiter, which tells all along that it is time to speak, as Bai et al.
    2018 have it.
    """

    marked: bool = False
    name: ClassVar[str] = "copy"
    memoryless: ClassVar[str] = "guessing the ten: 1/8 right, loss 10 ln 8 / (T + 20)"

    @property
    def shape(self) -> Shape:
        """Symbols, blank and delimiter in; logits of symbols and blank out at every step."""
        return Shape(tokens=SYMBOLS + 2, features=0, outputs=(SYMBOLS + 1,), every_step=True)

    def steps(self, length: int) -> int:
        """T + 20."""
        return length + 2 * COPIED

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, T + 20) tokens and (B, T + 20) targets."""
        inputs = torch.full((batch, self.steps(length)), SYMBOLS, device=device)
        targets = inputs.clone()
        symbols = torch.randint(SYMBOLS, (batch, COPIED), generator=generator, device=device)
        inputs[:, :COPIED] = targets[:, -COPIED:] = symbols
        inputs[:, -COPIED - 1 : None if self.marked else -COPIED] = SYMBOLS + 1
        return inputs, targets

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over all T + 20 steps."""
        return F.cross_entropy(output.flatten(0, 1), targets.flatten())

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) share of the ten that is right."""
        return (output.argmax(dim=2) == targets)[:, -COPIED:].float().mean(dim=1)

    def memoryless_loss(self, length: int) -> float:
        """10 ln 8 / (T + 20)."""
        return COPIED * math.log(SYMBOLS) / self.steps(length)


@dataclass(frozen=True)
class Selective(Problem):
    """K pairs of key and value, then a key alone: what was its value? Length K counts the pairs.

    Key and value share a step, as one-hot features beside each other, so that one layer can bind them; keys differ
    within a sequence, and so do values. ``largest`` is the most pairs that the net has room for: the number of keys,
    and of values. Chance is 1/K, not 1/largest: knowing which values came, but not with which keys.
    """

    largest: int = 32
    name: ClassVar[str] = "selective"
    axis: ClassVar[str] = "pairs"
    memoryless: ClassVar[str] = "values without their keys: 1/K right"
    least: ClassVar[int] = 2

    @property
    def shape(self) -> Shape:
        """One-hot keys and values in, logits of values out after the last step."""
        return Shape(tokens=0, features=2 * self.largest, outputs=(self.largest,))

    @property
    def scale(self) -> float:
        """Of the ones: a pair embedded by torch's own linear layer gets entries of variance 1, as tokens have."""
        return math.sqrt(3 * self.largest)

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, K + 1, 2 largest) features and (B,) values."""
        keys, values = self.pairs(batch, length, generator, device)
        asked = torch.randint(length, (batch, 1), generator=generator, device=device)
        return self.written(torch.cat([keys, keys.gather(1, asked)], 1), values), values.gather(1, asked)[:, 0]

    def pairs(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, K) keys and (B, K) values, each drawn without putting back."""
        shape = (batch, self.largest)
        keys, values = (
            torch.rand(shape, generator=generator, device=device).argsort(dim=1)[:, :length] for _ in range(2)
        )
        return keys, values

    def written(self, keys: Tensor, values: Tensor) -> Tensor:
        """(B, T, 2 largest) features of (B, T) keys, of which the first K have the (B, K) ``values`` beside them."""
        inputs = torch.zeros(*keys.shape, 2 * self.largest, device=keys.device)
        inputs[:, :, : self.largest].scatter_(2, keys[:, :, None], self.scale)
        inputs[:, : values.shape[1], self.largest :].scatter_(2, values[:, :, None], self.scale)
        return inputs

    def chance(self, length: int) -> float:
        """1/K."""
        return 1 / length


@dataclass(frozen=True)
class Queries(Selective):
    """`Selective`, but every key is asked for, in another order: K pairs, then K keys (multi-query recall; Arora et
    al. 2023, whose queries stand between the pairs and where key and value are steps of their own).

    One query can be answered by who keeps one pair and is lucky; here the whole of what was read must be kept, and
    every sequence teaches all of it.
    """

    name: ClassVar[str] = "multi-query"

    @property
    def shape(self) -> Shape:
        """One-hot keys and values in, logits of values out at every step."""
        return Shape(tokens=0, features=2 * self.largest, outputs=(self.largest,), every_step=True)

    def steps(self, length: int) -> int:
        """2 K."""
        return 2 * length

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, 2 K, 2 largest) features and (B, K) values, in the order in which they are asked for."""
        keys, values = self.pairs(batch, length, generator, device)
        order = torch.rand((batch, length), generator=generator, device=device).argsort(dim=1)
        return self.written(torch.cat([keys, keys.gather(1, order)], 1), values), values.gather(1, order)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over the queries."""
        return F.cross_entropy(output[:, -targets.shape[1] :].flatten(0, 1), targets.flatten())

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) share of the queries that is right."""
        return (output[:, -targets.shape[1] :].argmax(dim=2) == targets).float().mean(dim=1)


@dataclass(frozen=True)
class Bits(Problem):
    """L random vectors of 8 bits, a delimiter, then to be said again (Graves et al. 2014, section 4.1).

    Inputs are 2 L + 1 steps of 9 features: the vectors, a one in the ninth, and L steps of zeros, at which the targets
    are the vectors. The loss is that of a whole sequence, summed over its 8 L bits: what the gradients of the paper,
    and so the norms that they are clipped to, are about.
    """

    name: ClassVar[str] = "bits"
    memoryless: ClassVar[str] = "guessing: half of the bits are wrong"

    @property
    def shape(self) -> Shape:
        """Bits and delimiter in, logits of bits out at every step."""
        return Shape(tokens=0, features=WIDE + 1, outputs=(WIDE,), every_step=True)

    def steps(self, length: int) -> int:
        """2 L + 1."""
        return 2 * length + 1

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, 2 L + 1, 9) features and (B, L, 8) bits."""
        bits = torch.randint(2, (batch, length, WIDE), generator=generator, device=device).float()
        inputs = torch.zeros(batch, self.steps(length), WIDE + 1, device=device)
        inputs[:, :length, :WIDE] = bits
        inputs[:, length, WIDE] = 1.0
        return inputs, bits

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over a sequence, mean over the batch."""
        said = output[:, -targets.shape[1] :]
        return F.binary_cross_entropy_with_logits(said, targets, reduction="sum") / len(targets)

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) share of the bits that is right."""
        return ((output[:, -targets.shape[1] :] > 0) == (targets > 0)).float().mean(dim=(1, 2))

    def chance(self, length: int) -> float:
        """1/2."""
        return 0.5

    def memoryless_loss(self, length: int) -> float:
        """8 L ln 2."""
        return WIDE * length * math.log(2)


@dataclass(frozen=True)
class Product(Problem):
    """After every step, what is the product of all permutations so far? The word problem of the group S_n.

    Of 2 points there are two permutations, and the product is the parity of the swaps; of 3 there are six, and the
    order matters. What a net carries need only be one of two or six things, and no step may be missed. Inputs and
    targets are permutations by their place in `permutations`: ``1 1 0 1`` gives ``1 0 0 1`` with 2 points. The loss
    counts every step, the quality the last eight.
    """

    points: int
    name: ClassVar[str] = "product"
    memoryless: ClassVar[str] = "guessing: one of 2, or of 6, is right"

    @property
    def shape(self) -> Shape:
        """Permutations in, logits of permutations out at every step."""
        return Shape(tokens=len(self.permutations), features=0, outputs=(len(self.permutations),), every_step=True)

    @functools.cached_property
    def permutations(self) -> list[tuple[int, ...]]:
        """All of them, by the point that each point goes to; the first one leaves all where they are."""
        return list(itertools.permutations(range(self.points)))

    @functools.cached_property
    def products(self) -> Tensor:
        """(G, G) places: of a permutation after another one, [after, before]."""
        place = {permutation: i for i, permutation in enumerate(self.permutations)}
        rows = [[place[tuple(a[b[i]] for i in range(self.points))] for b in self.permutations] for a in place]
        return torch.tensor(rows)

    def steps(self, length: int) -> int:
        """As many as permutations."""
        return length

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, L) permutations and (B, L) products."""
        inputs = torch.randint(len(self.permutations), (batch, length), generator=generator, device=device)
        products, so_far, reach = self.products.to(device), inputs, 1
        while reach < length:  # each holds the product of the last ``reach`` steps, then of twice as many
            so_far = torch.cat([so_far[:, :reach], products[so_far[:, reach:], so_far[:, :-reach]]], dim=1)
            reach *= 2
        return inputs, so_far

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over all steps."""
        return F.cross_entropy(output.flatten(0, 1), targets.flatten())

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) share of the last eight steps that is right."""
        return (output.argmax(dim=2) == targets)[:, -SCORED:].float().mean(dim=1)

    def chance(self, length: int) -> float:
        """One over the number of permutations."""
        return 1 / len(self.permutations)


REBER = "BTSXPVE"  # its symbols
ARROWS = (  # from each of its states, the symbols that may come with the states they lead to
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
)
ENDED = -1  # target of a step after the end of a string


@dataclass(frozen=True)
class Reber(Problem):
    """Strings of the embedded Reber grammar, each symbol told from those before it (Cleeremans, Servan-Schreiber and
    McClelland 1989; Hochreiter and Schmidhuber 1997, section 5.1).

    ``B T B T X S E T E``: after B a T or a P, then a string of the Reber grammar, then the same T or P, and E. All but
    the last T or P follow from the two symbols before. Targets are the next symbol s and the set L of those that may
    follow, as s + 7 L, L with a bit for each; after the end they are -1. The quality is 1 where at every step all that
    may follow have a higher output than all that may not.
    """

    name: ClassVar[str] = "reber"
    memoryless: ClassVar[str] = "a string with a mistake"

    @property
    def shape(self) -> Shape:
        """Symbols in, logits of symbols out at every step."""
        return Shape(tokens=len(REBER), features=0, outputs=(len(REBER),), every_step=True)

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, T) symbols and targets, as long as the longest string; ``length`` has no say."""
        seed = int(torch.randint(1 << 62, (1,), generator=generator, device=generator.device))
        host = random.Random(seed)  # strings are walks, which no device draws at once
        strings = [self.string(host) for _ in range(batch)]
        longest = max(len(symbols) for symbols, _ in strings)
        inputs = torch.zeros(batch, longest, dtype=torch.long)
        targets = torch.full((batch, longest), ENDED)
        for row, (symbols, wanted) in enumerate(strings):
            inputs[row, : len(symbols)] = torch.tensor(symbols)
            targets[row, : len(wanted)] = torch.tensor(wanted)
        return inputs.to(device), targets.to(device)

    @staticmethod
    def string(host: random.Random) -> tuple[list[int], list[int]]:
        """The symbols of one string but its last, and the target at each."""
        outer, state, sets = host.choice("TP"), 0, ["TP"]
        inner = ""
        while state < len(ARROWS):
            sets.append("".join(ARROWS[state]))
            inner += host.choice(sets[-1])
            state = ARROWS[state][inner[-1]]
        string, sets = f"B{outer}{inner}{outer}E", [*sets, outer, "E"]
        numbers = [REBER.index(symbol) for symbol in string]
        bits = [sum(1 << REBER.index(symbol) for symbol in symbols) for symbols in sets]
        return numbers[:-1], [symbol + len(REBER) * legal for symbol, legal in zip(numbers[1:], bits, strict=True)]

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over the symbols of all strings."""
        wanted = torch.where(targets == ENDED, ENDED, targets % len(REBER))
        return F.cross_entropy(output.flatten(0, 1), wanted.flatten(), ignore_index=ENDED)

    def score(self, output: Tensor, targets: Tensor) -> Tensor:
        """(B,) 1 where no step has a mistake."""
        places = torch.arange(len(REBER), device=targets.device)
        legal = (targets.div(len(REBER), rounding_mode="floor")[:, :, None] >> places) & 1 == 1
        least = output.masked_fill(~legal, math.inf).amin(2)
        most = output.masked_fill(legal, -math.inf).amax(2)
        return ((least > most) | (targets == ENDED)).all(dim=1).float()

    def chance(self, length: int) -> float:
        """0, nearly."""
        return 0.0

    def memoryless_loss(self, length: int) -> float:
        """Not known in closed form."""
        return math.nan


@dataclass(frozen=True)
class Digits(Problem):
    """Which digit is it? Images of 8 by 8 grey pixels, pixel by pixel (scikit-learn's, of E. Alpaydin and C. Kaynak).

    Attributes:
        images: (N, 64, 1) of all, from 0 to 1, in the order in which they are read.
        labels: (N,).
        train: how many of them are trained on, the first; the rest is the test.
    """

    images: Tensor
    labels: Tensor
    train: int
    name: ClassVar[str] = "digits"
    memoryless: ClassVar[str] = "guessing: 1/10 right"

    @classmethod
    def shipped(cls, permuted: bool, device: Device) -> Digits:
        """All 1,797 in an order drawn once, four fifths of them to train on; ``permuted``: pixels in another, too."""
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        fixed = torch.Generator().manual_seed(0)
        order = torch.randperm(len(pixels), generator=fixed)
        images = (torch.from_numpy(pixels).float() / 16)[order]
        if permuted:
            images = images[:, torch.randperm(images.shape[1], generator=fixed)]
        labels = torch.from_numpy(digits).long()[order]
        return cls(images[:, :, None].to(device), labels.to(device), len(images) * 4 // 5)

    @property
    def shape(self) -> Shape:
        """A pixel at every step in, logits of ten digits out after the last."""
        return Shape(tokens=0, features=1, outputs=(10,))

    def steps(self, length: int) -> int:
        """64."""
        return self.images.shape[1]

    def draw(self, batch: int, length: int, generator: Generator, device: Device) -> tuple[Tensor, Tensor]:
        """(B, 64, 1) images of those to train on and (B,) digits."""
        rows = torch.randint(self.train, (batch,), generator=generator, device=self.images.device)
        return self.images[rows], self.labels[rows]

    def tests(self, sequences: int, length: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All images of the test."""
        yield self.images[self.train :], self.labels[self.train :]

    def chance(self, length: int) -> float:
        """1/10."""
        return 0.1


PROBLEMS: dict[str, Problem] = {
    problem.name: problem for problem in (Recall(), Adding(), Copy(), Selective(), Queries())
}


def make_problem(name: str, *, blank: bool = False, largest: int | None = None) -> Problem:
    """Problem ``name``, with `Recall.blank` and `Selective.largest` where it has them."""
    if name == Recall.name:
        return Recall(blank)
    problem = PROBLEMS[name]
    return replace(problem, largest=largest) if isinstance(problem, Selective) and largest is not None else problem
