"""The networks that probes measure, and what is refused before a probe starts work: layers that break their contract,
and lengths that no memory holds.

A net is a registered mixer in the usual backbone with a head that pools nothing. The head of `classify` also reads a
mean over all steps, which would hand it the first symbol; here it reads the last step alone, or each step by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqbench.errors import NotApplicable, UserError, nearest
from seqbench.models.backbone import SequenceModel, check_widths, count_parameters
from seqbench.models.heads import Head, Shape
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import nearest_width
from seqbench.probes import ProbeSpec

__all__ = [
    "Readout",
    "build_net",
    "check_fits",
    "check_length",
    "check_mixer",
    "fresh_net",
    "generator_of",
    "initialisations",
    "pick_names",
    "seeds_outermost",
    "width_of_size",
]


class Readout(Head):
    """A linear map of the last step (B, K), or of every step (B, T, K); causal, as the state is what is measured."""

    causal = True

    def __init__(self, d_in: int, shape: Shape) -> None:
        super().__init__(d_in, shape)
        self.whole = shape.every_step
        self.out = nn.Linear(d_in, shape.outputs[0])

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, d_in) to (B, K) or (B, T, K)."""
        output: Tensor = self.out(y if self.whole else y[:, -1])
        return output


def build_net(
    model: str, shape: Shape, width: int, *, layers: int = 1, backbone: str = "bare", initialisation: str | None = None
) -> SequenceModel:
    """A causal net of ``model``; its weights are drawn from torch's generator.

    Raises:
        NotApplicable: the model sees later steps.
        UserError: no such model or initialisation, or a width that the mixer can't have.
    """
    mixer = MODELS.get(model).mixer
    usual = mixer.initialisations[0]
    start = initialisation or usual
    if start not in mixer.initialisations:
        raise UserError(nearest(start, mixer.initialisations, f"initialisation of {model}"))
    if not mixer.can_be_causal:
        raise NotApplicable(f"{model} sees later steps, so nothing need be carried from step to step")
    check_widths(model, (width,))
    net = SequenceModel(mixer, Readout, shape, (width,) * layers, 0.0, backbone)
    for layer in net.layers if start != usual else ():
        assert isinstance(layer, Mixer)
        layer.initialise(start)
    return net


def fresh_net(build: Callable[[], SequenceModel], device: str, *place: int) -> tuple[SequenceModel, torch.Generator]:
    """What ``build`` builds, and a generator of data, both on ``device`` and decided by the numbers ``place`` alone.

    Nothing that ran before matters, so an attempt at one length, say, can be repeated by itself.
    """
    of_weights, of_data = np.random.SeedSequence(place).generate_state(2).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(of_weights)
        net = build()
    return net.to(device), torch.Generator(device).manual_seed(of_data)


def generator_of(device: str, *place: int) -> torch.Generator:
    """A generator on ``device`` that is decided by the numbers ``place`` alone."""
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))


def pick_names(asked: str, known: Sequence[str], noun: str) -> list[str]:
    """Names of ``known``: ``asked`` is one, several with commas, or ``all``; others are a `UserError`.

    ``noun`` is what they name, and the option that asks for them.
    """
    names = list(dict.fromkeys(name.strip() for name in asked.split(",")))
    if not all(names):
        raise UserError(f"--{noun} is empty or has an empty name: take one, several with commas, or all.")
    for name in names:
        if name != "all" and name not in known:
            raise UserError(nearest(name, known, noun))
    return list(known) if "all" in names else names


def initialisations(asked: str, models: Sequence[str]) -> dict[str, list[str]]:
    """Of each model those that are ``asked`` for and that it has, in its own order.

    Of one that can't be causal, which no probe of memory can measure, the usual one.

    Args:
        asked: ``default`` (each model's usual one), names with commas, or ``all``.
        models: names.

    Raises:
        UserError: a name that none of the models has.
    """
    mixers = {model: MODELS.get(model).mixer for model in models}
    known = dict.fromkeys(name for mixer in mixers.values() for name in ("default", *mixer.initialisations))
    wanted = pick_names(asked, list(known), "initialisation")
    own: dict[str, list[str]] = {}
    for model, mixer in mixers.items():
        usual, *others = mixer.initialisations
        own[model] = [usual] if usual in wanted or "default" in wanted or not mixer.can_be_causal else []
        own[model] += [name for name in others if name in wanted and mixer.can_be_causal]
    return own


def seeds_outermost(specs: Iterable[ProbeSpec]) -> list[ProbeSpec]:
    """All ``specs`` by seed; of a model that sees later steps the first only, whose record gives the reason."""
    kept: list[ProbeSpec] = []
    refused: dict[str, ProbeSpec] = {}
    for spec in specs:
        (model,) = spec.models
        if MODELS.get(model).mixer.can_be_causal or refused.setdefault(model, spec) is spec:
            kept.append(spec)
    return sorted(kept, key=lambda spec: spec.seed)


def width_of_size(params: int, model: str, shape: Shape, **options: Any) -> int:
    """The width at which ``model`` has nearest to ``params`` parameters, embedding and head included.

    Args:
        params: parameters wanted.
        model: its name; a causal one.
        shape: of the net.
        options: of `build_net`.

    Raises:
        UserError: even the narrowest has more.
    """
    multiple = MODELS.get(model).mixer.width_multiple
    return nearest_width(
        params, model, lambda width: count_parameters(build_net(model, shape, width, **options)), multiple
    )


LONGEST = 1 << 24  # steps; beyond it no probe's arithmetic was thought of
SHARE = 0.8  # of the free memory that one training step may take
CLOSE = 1e-4  # of outputs near 1: what a look ahead changes is larger, what rounding does is smaller
SIZED_BATCH = 2
SIZED_AT = (32, 64, 128)  # lengths from which the bytes at any other are found


def check_mixer(model: str) -> None:
    """Build a small layer of ``model`` and hold it to the contract of `Mixer`.

    Raises:
        UserError: one sentence that names the check that failed.
    """
    mixer = MODELS.get(model).mixer
    width = 8 * mixer.width_multiple
    batch, length = 2, 12

    def fail(check: str, found: str) -> None:
        raise UserError(f"model {model} fails the check of {check}: {found}.")

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        try:
            layer = mixer(width, width, mixer.can_be_causal).eval()
            x = torch.randn(batch, length, width, requires_grad=True)
            y = layer(x, None)
        except Exception as error:  # whatever a user's own layer does
            fail("running", f"it ends with {type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}")
        if not isinstance(y, Tensor):
            fail("shape", f"it returns a {type(y).__name__}, not a tensor")
        if y.ndim == 3 and y.shape[1] != length:
            fail("length", f"{length} steps went in and {y.shape[1]} came out")
        if y.shape != (batch, length, width):
            fail("shape", f"it returns {tuple(y.shape)} where {(batch, length, width)} is expected")
        if not torch.isfinite(y).all():
            fail("finite values", "its output holds NaN or infinity for ordinary inputs")
        if mixer.can_be_causal:
            _check_causal(layer, x, fail)


def _check_causal(layer: Mixer, x: Tensor, fail: Callable[[str, str], None]) -> None:
    """By derivative and by change: neither a dead gradient nor a kink hides a look ahead from both."""
    y = layer(x, None)
    weights = torch.linspace(-1.0, 2.0, y.shape[2], dtype=y.dtype).exp()
    for k in (0, 3, y.shape[1] - 2):
        reads = False
        if y.requires_grad:
            (gradient,) = torch.autograd.grad((y[:, : k + 1] * weights).sum(), x, retain_graph=True, allow_unused=True)
            reads = gradient is not None and bool((gradient[:, k + 1 :] != 0).any())
        with torch.no_grad():
            changed = x.detach().clone()
            changed[:, k + 1 :] += 1.0
            reads = reads or not torch.allclose(layer(changed, None)[:, : k + 1], y[:, : k + 1], atol=CLOSE)
        if reads:
            fail("causality", f"it says that it can be causal, but its output at step {k} depends on later steps")


def check_length(length: int, option: str = "--length", least: int = 1) -> None:
    """Refuse lengths of 0 and lengths that nothing could hold."""
    if not least <= length <= LONGEST:
        raise UserError(f"{option} {length} is out of range: take {least} to {LONGEST:,} steps.")


def check_fits(
    net: Callable[[], SequenceModel], shape: Shape, batch: int, length: int, device: str, option: str = "--length"
) -> None:
    """Refuse a ``length`` at which a training step of ``net`` would not fit into memory.

    Raises:
        UserError: with the largest length that fits.
    """
    free = available_bytes(device)
    need = training_bytes(net, shape, batch, device)
    if free is None or need is None or need(length) <= SHARE * free:
        return
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle) <= SHARE * free else (low, middle)
    raise UserError(
        f"{option} {length} needs about {need(length) / 2**30:.1f} GiB at batch {batch}, and {free / 2**30:.1f} GiB "
        f"are free: the largest that fits is {low}."
    )


def training_bytes(
    net: Callable[[], SequenceModel], shape: Shape, batch: int, device: str
) -> Callable[[int], int] | None:
    """Bytes that a training step keeps for its backward pass, as a function of the length; None where it can't be told.

    Counted at three short lengths, through which a parabola goes: what recurrence and attention keep grows with the
    length or its square. Kernels' own working memory is not in it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several that wait for each other take a hundred times as long on a busy machine
    try:
        with torch.random.fork_rng(devices=[]):
            model = net().to(device)
        fixed = sum(p.numel() * p.element_size() for p in model.parameters()) * 4  # gradient, two moments
        kept = [_kept(model, shape.example(SIZED_BATCH, length, device)) for length in SIZED_AT]
        counts = [count * batch // SIZED_BATCH for count in kept]
    except Exception:  # a user's own layer; running it will say what is wrong
        return None
    finally:
        torch.set_num_threads(threads)
    (a, b, c), (ya, yb, yc) = SIZED_AT, counts
    first, second = (yb - ya) / (b - a), (yc - yb) / (c - b)
    bend = (second - first) / (c - a)

    def need(length: int) -> int:
        return fixed + int(max(0.0, ya + (length - a) * (first + (length - b) * bend)))

    return need


def _kept(model: SequenceModel, inputs: Tensor) -> int:
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(inputs, None)
    return sum(storage.nbytes() for storage in kept.values())


def available_bytes(device: str) -> int | None:
    """Free memory of a device type, None where the system does not tell."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device != "cpu":
        return None
    return min(_free(), default=None)


def _free() -> Iterator[int]:
    """What the system says is available, and what the control group has left."""
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as lines:
        yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        most = int((group / "memory.max").read_text())
        yield most - int((group / "memory.current").read_text())
