"""What a model must keep: the contract of a mixer, in plain words (`seqbench.models.mixer.Mixer`).

Layers are built as small as the rules allow, in single precision, as they are trained. Where a layer draws random
numbers in training (dropout), what is compared is compared in evaluation alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.checks import Broken, NotChecked, register_check
from seqbench.models.backbone import build
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Mixer, ModelSpec, real_steps
from seqbench.probes.shared.nets import check_mixer
from seqbench.registry import Entry
from seqbench.report.text import counted, listed, rounded
from seqbench.training import AdamW

__all__ = ["Subject", "plain_model"]

ROUNDING = 1e-9  # in double precision
CLOSE = 1e-5  # of outputs about as large as 1: rounding in single precision is less, and a wrong formula is more
LENGTHS = (9, 1, 4, 9, 6)  # of the rows of a padded batch
LONG = 130  # steps: more than two chunks of 64, where a chunked scan may look across its border
GARBAGE = 50.0  # size of what is put into the padding
TIMED = (32, 64, 32)  # batch, steps, and width where it may be that
STEPS, LEARNING_RATE, SHARE = 60, 1e-2, 0.8  # of learning by heart, and of what is left without it
CLASSES = 4


class Subject:
    """The model called ``name``; inside a ``with`` torch's generator may be seeded, and afterwards is as it was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mixer = MODELS.get(name).mixer
        multiple = self.mixer.width_multiple
        self.width = 8 + -8 % multiple  # the least multiple that is 8 or more

    def layer(self, *, d_in: int = 0, d_out: int = 0, causal: bool | None = None, training: bool = False) -> Mixer:
        """A layer whose weights are the same in every call; widths are the subject's unless they are given."""
        torch.manual_seed(0)
        layer = self.mixer(d_in or self.width, d_out or self.width, self.causal if causal is None else causal)
        return layer.train(training)

    @property
    def causal(self) -> bool:
        """Whether it can be built so that no step sees a later one."""
        return self.mixer.can_be_causal

    @property
    def kinds(self) -> tuple[bool, ...]:
        """How it may be built: for tasks that predict what comes next, and for others."""
        return (True, False) if self.causal else (False,)

    def modes(self, causal: bool) -> Iterator[tuple[str, Mixer]]:
        """The layer in evaluation, and in training unless it draws numbers there."""
        yield "evaluation", self.layer(causal=causal)
        x = _inputs(2, 5, self.width)
        layer = self.layer(causal=causal, training=True)
        with torch.no_grad():
            torch.manual_seed(1)
            first = layer(x)
            torch.manual_seed(2)
            if _difference(first, layer(x)) <= CLOSE:
                yield "training", self.layer(causal=causal, training=True)

    def __enter__(self) -> Subject:
        self._generator = torch.get_rng_state()
        return self

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self._generator)


def _inputs(batch: int, length: int, width: int, seed: int = 0) -> Tensor:
    """(B, T, D) of independent normal numbers."""
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))


def _difference(a: Tensor, b: Tensor) -> float:
    """The largest, as a share of the larger of 1 and the largest value; infinite where one is NaN."""
    if a.shape != b.shape:
        raise Broken(f"outputs have shapes {tuple(a.shape)} and {tuple(b.shape)} where they should be alike.")
    if a.numel() == 0:
        return 0.0
    scale = max(1.0, float(b.detach().abs().max()))
    found = float((a - b).detach().abs().max()) / scale
    return found if found == found else float("inf")


def _named(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in layer.named_parameters() if parameter.requires_grad]


@register_check("model", "shape", "forward(x, lengths) takes (B, T, d_in) and gives finite (B, T, d_out)", first=True)
def _shape(subject: Subject) -> str:
    multiple = subject.mixer.width_multiple
    sizes = [(1, 1, 1, 1), (3, 7, 1, 2), (2, 12, 3, 1), (4, 33, 2, 2)]
    for causal in subject.kinds:
        for batch, length, into, out in sizes:
            d_in, d_out = 4 * multiple * into, 4 * multiple * out
            layer = subject.layer(d_in=d_in, d_out=d_out, causal=causal)
            lengths = torch.arange(batch) % length + 1
            for given in (None, lengths):
                y = layer(_inputs(batch, length, d_in), given)
                _expect(y, (batch, length, d_out), given)
    return f"{counted(len(sizes), 'size')}, d_in and d_out alike and not, with and without lengths"


def _expect(y: Any, shape: tuple[int, int, int], lengths: Tensor | None) -> None:
    if not isinstance(y, Tensor):
        raise Broken(f"forward returns a {type(y).__name__}: return one tensor (B, T, d_out).")
    if tuple(y.shape) != shape:
        raise Broken(f"forward returns {tuple(y.shape)} where {shape} is expected: keep B and T, and map to d_out.")
    real = y if lengths is None else y[real_steps(lengths, shape[1])]
    if not torch.isfinite(real).all():
        share = 1 - float(torch.isfinite(real).float().mean())
        raise Broken(
            f"{share:.0%} of the output is NaN or infinite for ordinary inputs: look for a division or a root."
        )


@register_check("model", "state size", "state_size(length) is a whole number: floats carried from step to step")
def _state_size(subject: Subject) -> str:
    layer = subject.layer()
    sizes = {length: layer.state_size(length) for length in (1, 12)}
    for length, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, float)) or size != int(size) or size < 0:
            raise Broken(f"state_size({length}) gives {size!r}: return a whole number of floats, 0 or more.")
    told = f"{sizes[1]} after 1 step, {sizes[12]} after 12"
    if not _steps(layer):
        return f"{told} (it offers no step form to compare with)"
    x, batch = _inputs(3, 12, subject.width), 3
    state = layer.initial_state(batch)
    for t in range(12):
        _, state = layer.step(x[:, t], state)
        if t + 1 in sizes:
            least, most = _floats(state, batch)
            if not least <= sizes[t + 1] <= most:
                raise Broken(
                    f"state_size({t + 1}) says {sizes[t + 1]}, and the state that step() carries then has {least} "
                    "floats for each sequence: let both say the same."
                )
    return f"{told}, as the state of step() has"


def _steps(layer: Mixer) -> bool:
    return layer.causal and type(layer).step is not Mixer.step


def _floats(state: Any, batch: int) -> tuple[int, int]:
    """Floats of one sequence in the state, without and with what counts steps."""
    if isinstance(state, Tensor):
        count = state.numel() // batch if state.ndim and len(state) == batch else state.numel()
        if state.is_complex():
            count *= 2
        return (count if state.is_floating_point() or state.is_complex() else 0), count
    if isinstance(state, (int, float)):
        return 0, 1
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (tuple, list)) else ()
    counts = [_floats(part, batch) for part in parts]
    return sum(least for least, _ in counts), sum(most for _, most in counts)


@register_check("model", "padding", "what stands in the padding changes no real step")
def _padding(subject: Subject) -> str:
    lengths, real, x = _padded(subject)
    garbage = torch.where(real[:, :, None], x, GARBAGE * _inputs(len(LENGTHS), max(LENGTHS), subject.width, seed=1))
    clean = torch.where(real[:, :, None], x, torch.zeros(()))
    for causal in subject.kinds:
        for mode, layer in subject.modes(causal):
            with torch.no_grad():
                first, second = layer(clean, lengths)[real], layer(garbage, lengths)[real]
            if (by := _difference(second, first)) > CLOSE:
                raise Broken(
                    f"in {mode} real steps change by up to {rounded(by)} of the output when other numbers stand in the "
                    "padding: leave out the steps after lengths (B,), for which seqbench.models.mixer.real_steps gives "
                    "a mask (B, T)."
                )
    return f"rows of {listed([str(length) for length in LENGTHS])} steps, with numbers around {GARBAGE:g} after them"


def _padded(subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths (B,), which steps are real (B, T), and inputs (B, T, D)."""
    lengths = torch.tensor(LENGTHS)
    return lengths, real_steps(lengths, max(LENGTHS)), _inputs(len(LENGTHS), max(LENGTHS), subject.width)


@register_check("model", "one by one", "a padded batch gives what its rows give one by one")
def _one_by_one(subject: Subject) -> str:
    lengths, real, x = _padded(subject)
    worst = 0.0
    for causal in subject.kinds:
        for mode, layer in subject.modes(causal):
            with torch.no_grad():
                together = layer(x, lengths)[real]
                alone = [layer(x[i : i + 1, :length], None)[0] for i, length in enumerate(LENGTHS)]
            by = _difference(together, torch.cat(alone))
            worst = max(worst, by)
            if by > CLOSE:
                raise Broken(
                    f"in {mode} rows differ by up to {rounded(by)} of the output from what each gives alone: a row "
                    "must depend on no other row (no statistic over the batch) and on no step after its length."
                )
    return f"{len(LENGTHS)} rows, alike to {worst:.0e}"


@register_check("model", "causality", "if it can be causal, no output depends on a later step")
def _causality(subject: Subject) -> str:
    if not subject.causal:
        raise NotChecked("it says can_be_causal = False, and is not applicable where the next step is predicted.")
    advice = "look only at earlier steps where causal is true, or say can_be_causal = False."
    try:
        check_mixer(subject.name)  # by derivative, and by change
    except Exception as error:
        raise Broken(f"{str(error).partition(' fails the check of ')[2] or error} To do: {advice}") from None
    x = _inputs(2, LONG, subject.width)
    for mode, layer in subject.modes(causal=True):
        with torch.no_grad():
            y = layer(x)
            for k in (0, 31, 63, 64, 100):
                changed = torch.cat([x[:, : k + 1], x[:, k + 1 :] + 1.0], dim=1)
                if (by := _difference(layer(changed)[:, : k + 1], y[:, : k + 1])) > 10 * CLOSE:
                    raise Broken(
                        f"in {mode}, of {LONG} steps, the output up to step {k} changes by up to {rounded(by)} when "
                        f"later steps change: {advice}"
                    )
    return f"by derivative and by change, up to {LONG} steps"


@register_check("model", "step", "step() and initial_state(), if offered, give what forward gives")
def _step(subject: Subject) -> str:
    layer = subject.layer()
    if not _steps(layer):
        raise NotChecked("it offers no step(); text is then generated by reading everything again.")
    x = _inputs(3, 20, subject.width)
    differences = _by_step(layer, x)
    if max(differences) > CLOSE:
        # what is normalised rounds more; in double precision rounding and a wrong formula are far apart
        if _steps_alike_in_double(subject, x):
            return f"20 steps, alike to {max(differences):.0e}, in double precision to {ROUNDING:.0e}"
        at = next(t for t, by in enumerate(differences) if by > CLOSE)
        raise Broken(
            f"step and forward differ from step {at} on, by up to {rounded(max(differences))} of the output: let step "
            "compute the same from the state of the step before."
        )
    return f"20 steps, alike to {max(differences):.0e}"


def _steps_alike_in_double(subject: Subject, x: Tensor) -> bool:
    try:
        return max(_by_step(subject.layer().double(), x.double())) < ROUNDING
    except (RuntimeError, TypeError, ValueError):  # that it does not work in double precision is told elsewhere
        return False


def _by_step(layer: Mixer, x: Tensor) -> list[float]:
    """At each step how far what `step` gives is from what `forward` gives, as a share of the output."""
    state, outputs = layer.initial_state(len(x)), []
    with torch.no_grad():
        for t in range(x.shape[1]):
            y, state = layer.step(x[:, t], state)
            if tuple(y.shape) != (len(x), layer.d_out):
                raise Broken(
                    f"step returns {tuple(y.shape)} where {(len(x), layer.d_out)} is expected: return (B, d_out)."
                )
            outputs.append(y)
        whole = layer(x)
    return [_difference(one, whole[:, t]) for t, one in enumerate(outputs)]


@register_check(
    "model", "carried state", "a state that it carries gives, piece by piece, what forward gives of the whole"
)
def _carried_state(subject: Subject) -> str:
    layer = subject.layer()
    if not layer.carries:
        raise NotChecked("it does not say carries = True, so that --carry-state is not for it.")
    if not _steps(layer) and type(layer).forward_from is Mixer.forward_from:
        raise Broken("it says carries = True and offers no step(): define it, or forward_from(x, state).")
    x, pieces = _inputs(3, LONG, subject.width), (1, 64, LONG - 65)
    differences = _piece_by_piece(layer, x, pieces)
    if max(differences) > CLOSE:
        # as of steps: what is normalised rounds more
        by_half = _piece_by_piece(subject.layer().double(), x.double(), pieces)
        if max(by_half) > ROUNDING:
            raise Broken(
                f"read in pieces of {listed([str(piece) for piece in pieces])} steps, it gives up to "
                f"{rounded(max(differences))} of the output more or less than read at once: let forward_from, or step, "
                "compute the same from the state before."
            )
    return f"{len(pieces)} pieces, alike to {max(differences):.0e}"


def _piece_by_piece(layer: Mixer, x: Tensor, pieces: Sequence[int]) -> list[float]:
    """Of each piece how far `forward_from` is from `forward` over all of ``x``, as a share of the output."""
    state, outputs = layer.initial_state(len(x)), []
    with torch.no_grad():
        for piece in torch.split(x, list(pieces), dim=1):
            y, state = layer.forward_from(piece, state)
            outputs.append(y)
        whole = torch.split(layer(x), list(pieces), dim=1)
    if _floats(state, len(x))[1] > layer.state_size(1):
        raise Broken(
            "it says carries = True, and its state grows with what is read, or has no row for each sequence: only a "
            "state of as many numbers whatever the length can be carried over a text."
        )
    return [_difference(one, other) for one, other in zip(outputs, whole, strict=True)]


@register_check("model", "gradients", "finite gradients reach every parameter")
def _gradients(subject: Subject) -> str:
    layer = subject.layer(training=True)
    lengths, real, x = _padded(subject)
    with torch.no_grad():  # what starts at 0 would keep the gradient from what stands before it
        for _, parameter in _named(layer):
            parameter.add_(0.05 * torch.randn(parameter.shape))
    x.requires_grad_()
    y = layer(x, lengths)
    if not y.requires_grad:
        raise Broken("no gradient passes through it: leave out detach() and no_grad() in forward.")
    weights = torch.linspace(-1.0, 2.0, y.shape[2]).exp()  # the plain sum of what is normalised is constant
    (y[real] * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in _named(layer)} | {"x": x.grad}
    unused = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    if unused:
        raise Broken(f"none reaches {listed(unused)}: use it in forward, or leave it out.")
    strange = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    if strange:
        raise Broken(f"that of {listed(strange)} is NaN or infinite: look for a root, a logarithm or a division at 0.")
    return f"{counted(len(gradients) - 1, 'parameter')}, and the input"


@register_check(
    "model", "repeatable", "the same seed gives the same output, evaluation draws nothing, calls are separate"
)
def _repeatable(subject: Subject) -> str:
    x, other = _inputs(2, 7, subject.width), _inputs(3, 5, subject.width, seed=1)
    for training in (False, True):
        twice = []
        for _ in range(2):
            layer = subject.layer(training=training)
            torch.manual_seed(1)
            twice.append(layer(x).detach())
        if not torch.equal(*twice):
            raise Broken(
                f"two layers with the same seed differ by up to {rounded(_difference(*twice))}: draw from torch's "
                "generator only (torch.rand, nn.init), never from numpy's, the clock or the order of a set."
            )
    layer = subject.layer()
    before, first = torch.get_rng_state(), layer(x).detach()
    if not torch.equal(before, torch.get_rng_state()):
        raise Broken("forward draws random numbers in evaluation: draw them only if self.training.")
    layer(other)
    if not torch.equal(first, layer(x).detach()):
        raise Broken("the same input gives another output after a call with another one: keep nothing between calls.")
    return "in training and in evaluation, to the last bit"


@register_check("model", "double", "it works in double precision")
def _double(subject: Subject) -> str:
    x = _inputs(2, 7, subject.width)
    with torch.no_grad():
        single, y = subject.layer()(x), subject.layer().double()(x.double())
    if y.dtype != torch.float64:
        raise Broken(f"{x.double().dtype} went in and {y.dtype} came out: make tensors with dtype=x.dtype.")
    if (by := _difference(single.double(), y)) > 1e-3:
        raise Broken(f"single and double precision differ by up to {rounded(by)} of the output: it is not stable.")
    return f"single precision is within {by:.0e} of it"


@register_check("model", "initialisations", "every initialisation that it lists can be had, and changes the weights")
def _initialisations(subject: Subject) -> str:
    names = subject.mixer.initialisations
    if len(names) < 2:
        raise NotChecked("it lists one, its default.")
    if len(set(names)) < len(names):
        raise Broken(f"{listed(names)}: one is listed twice.")
    usual = torch.cat([parameter.detach().flatten() for _, parameter in _named(subject.layer())])
    for name in names:
        layer = subject.layer()
        layer.initialise(name)
        weights = torch.cat([parameter.detach().flatten() for _, parameter in _named(layer)])
        if not torch.isfinite(layer(_inputs(2, 5, subject.width))).all():
            raise Broken(f"after initialise({name!r}) the output is NaN or infinite.")
        if name != names[0] and torch.equal(weights, usual):
            raise Broken(f"initialise({name!r}) leaves every weight as the default has it: let it change some.")
    return listed(names)


@register_check("model", "learning", "it can learn a tiny batch by heart")
def _learning(subject: Subject) -> str:
    shape, width = Shape(tokens=8, features=0, outputs=(CLASSES,)), max(16, subject.width)
    width += -width % subject.mixer.width_multiple
    torch.manual_seed(0)
    model = build(subject.name, "classify", shape, (width,)).train()
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randint(8, (16, 10), generator=draw)
    targets = torch.randint(CLASSES, (16,), generator=draw)
    optimizer = AdamW((parameter for parameter in model.parameters() if parameter.requires_grad), 0.0)
    losses = []
    for _ in range(STEPS):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step(LEARNING_RATE)
        losses.append(float(loss.detach()))
    shares = torch.bincount(targets, minlength=CLASSES) / len(targets)
    blind = float(torch.special.entr(shares).sum())  # without a look at the inputs
    told = f"the loss on 16 sequences goes from {losses[0]:.2f} to {losses[-1]:.2f} in {STEPS} steps"
    if not losses[-1] < SHARE * blind:
        raise Broken(
            f"{told}, and {blind:.2f} is had without a look at the inputs: it should come below {SHARE:g} times that. "
            "Look at the scale of weights and outputs, and at what forward leaves out."
        )
    return told


@register_check("model", "time", "time of a training step beside torch's LSTM (shown, never judged)")
def _time(subject: Subject) -> str:
    batch, length, width = TIMED
    width += -width % subject.mixer.width_multiple
    x = _inputs(batch, length, width)
    torch.manual_seed(0)
    usual, layer = nn.LSTM(width, width, batch_first=True), subject.layer(d_in=width, d_out=width, training=True)
    seconds: dict[str, list[float]] = {"usual": [], "own": []}
    for _ in range(6):  # in turns; the first is for warming up
        for name, run in (("usual", lambda: usual(x)[0]), ("own", lambda: layer(x))):
            clock = time.perf_counter()
            run().square().mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            seconds[name].append(time.perf_counter() - clock)
    own, theirs = median(seconds["own"][1:]), median(seconds["usual"][1:])
    return (
        f"{1e3 * own:.1f} ms forward and backward at B {batch}, T {length}, width {width}; torch's LSTM takes "
        f"{1e3 * theirs:.1f} ms: {rounded(own / theirs, 2)} times"
    )


def plain_model() -> str:
    """The built-in causal model with the fewest parameters: what comes fast where any would do."""
    own = [entry for entry in MODELS.entries() if not entry.apart and entry.value.mixer.can_be_causal]

    def size(entry: Entry[ModelSpec]) -> tuple[int, str]:
        mixer = entry.value.mixer
        width = 8 + -8 % mixer.width_multiple
        return sum(parameter.numel() for parameter in mixer(width, width, True).parameters()), entry.name

    with torch.random.fork_rng(devices=[]):
        return min(own, key=size).name
