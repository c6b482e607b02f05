"""The backbone: embedding, mixer layers, head. It is the same for every model, so that only the mixer differs.

`bare` stacks the mixers with dropout after each, as the textbooks' stacked LSTM; `residual` wraps each as
x + dropout(mixer(norm(x))) with a last norm, as modern language models do. Tokens are embedded as N(0, 1) vectors of
the first layer's width; features pass through one linear layer to that width. Another width can be given for the
embedding, shares of dropout for each layer, and dense layers before the head's output.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.data import Batch, TaskData
from seqbench.errors import NotApplicable, UserError
from seqbench.models.dropout import Dropout
from seqbench.models.heads import HEADS, Head, Shape
from seqbench.models.mixer import MODELS, Embedded, Mixer, Regularisers
from seqbench.options import brief

__all__ = [
    "SequenceModel",
    "build",
    "check_carries",
    "check_causal",
    "check_embedding",
    "check_frame_options",
    "check_regularisers",
    "check_widths",
    "count_parameters",
    "shape_of",
]


NOTHING = Regularisers()
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class SequenceModel(nn.Module):
    """``model(inputs, lengths) -> head output``; inputs are (B, T) tokens or (B, T, D) features."""

    def __init__(
        self,
        mixer: type[Mixer],
        head: type[Head],
        shape: Shape,
        widths: tuple[int, ...],
        dropout: float | tuple[float, ...] = 0.0,
        backbone: str = "bare",
        embedding: int | None = None,
        dense: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.widths = widths
        self.shape = shape
        self.tokens = shape.tokens > 0
        self.embed, embedded = _embedding(shape, widths[0] if embedding is None else embedding)
        d_ins = (embedded, *widths[:-1])
        self.layers = nn.ModuleList(mixer(d_in, d, head.causal) for d_in, d in zip(d_ins, widths, strict=True))
        self.residual = backbone == "residual"
        self.norms = nn.ModuleList(nn.LayerNorm(d) for d in (*d_ins, widths[-1]) if self.residual)
        self.shares = dropout if isinstance(dropout, tuple) else (dropout,) * len(widths)
        self.dropout = Dropout(self.shares[0])
        self.head = head(widths[-1], shape)
        if dense:
            self.head.deepen(dense)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        output: Tensor = self.head(self.read(inputs, lengths), lengths)
        return output

    def read(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the head reads: (B, T, last width), or (B, 1, last width) where it reads step T alone."""
        # a head's own word, not one that it has from another: it may read more than that
        last_only = bool(vars(type(self.head)).get("last_only", False))
        embedded = self._embedded(inputs)
        if embedded is None:
            x = self.mix(self.embed(inputs), lengths, last_only=last_only)
        else:
            y = self._mixer(0).forward_embedded(embedded, lengths)
            x = self._leave(0, self.embed(inputs) if self.residual else y, y, last_only=last_only)
            x = self.mix(x, lengths, first=1, last_only=last_only)
        if not self.residual:
            return x
        normed: Tensor = self.norms[-1](x)
        return normed

    def teach(self, batch: Batch) -> Tensor:
        """The output that the head's loss reads, of a batch to train on."""
        output: Tensor = self(batch.inputs, batch.lengths)
        return output

    def answer(self, batch: Batch) -> Tensor:
        """The output that the head's predictions are made of, of a batch whose targets are not looked at."""
        output: Tensor = self(batch.inputs, batch.lengths)
        return output

    writes: ClassVar[bool] = False  # whether `told` needs what was written so far

    def told(self, inputs: Tensor, lengths: Tensor | None = None, written: Tensor | None = None) -> Tensor:
        """What the model tells of inputs alone, as an exported one does (`Head.told`).

        A model that writes says, at each step of ``written`` (B, S), what follows the pieces before that step.
        """
        told: Tensor = self.head.told(self(inputs, lengths))
        return told

    def traced(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(1, T, width) of what predicts later steps as a leaf that asks for its gradient, and what the mixers make of
        it: what `check_causal` differentiates."""
        embedded = self.embed(inputs.long() if self.tokens else inputs).detach().requires_grad_()
        return embedded, self.mix(embedded, None)

    def mix(self, x: Tensor, lengths: Tensor | None, *, first: int = 0, last_only: bool = False) -> Tensor:
        """The mixer layers from ``first`` on: (B, T, width) to (B, T, last width), or (B, 1, ...) of step T alone."""
        for i in range(first, len(self.layers)):
            x = self._leave(i, x, self.layers[i](self._enter(i, x), lengths), last_only=last_only)
        return x

    def _embedded(self, inputs: Tensor, ways: tuple[str, str] = ("forward_embedded", "forward")) -> Embedded | None:
        """``inputs`` with their embedding, where only a function of each symbol stands before the first layer, and that
        has a way to read them so: the first of ``ways``, in place of the second."""
        if inputs.device.type != "cpu" or not _folds(self.layers[0], *ways) or _is_changed(self.embed):
            return None
        if isinstance(self.embed, nn.Embedding):
            table, symbols = self.embed.weight, inputs
            if 2 * len(table) > inputs.numel():  # a large vocabulary: only what stands in this batch
                present, symbols = torch.unique(inputs, return_inverse=True)
                table = F.embedding(present, table)
            return Embedded(symbols, self._enter(0, table), None)
        if isinstance(self.embed, nn.Linear) and not self.residual and self.shape.features <= self.embed.out_features:
            return Embedded(inputs, self.embed.weight, self.embed.bias)
        return None

    def _enter(self, i: int, x: Tensor) -> Tensor:
        if self.residual:
            normed: Tensor = self.norms[i](x)
            return normed
        return x

    def _leave(self, i: int, x: Tensor, y: Tensor, *, last_only: bool) -> Tensor:
        """What layer ``i``, which took ``x`` to ``y``, hands on; of the last one step T alone if ``last_only``."""
        if last_only and i == len(self.layers) - 1:  # no mask and no skip for what nobody reads
            x, y = x[:, -1:], y[:, -1:]
        return self._skip(i, x, y)

    def _skip(self, i: int, x: Tensor, y: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(y, self.shares[i])
        # no skip where the width changes
        return x + dropped if self.residual and x.shape == y.shape else dropped

    def initial_state(self, batch: int) -> list[Any]:
        """States of all layers before the first step."""
        return [self._mixer(i).initial_state(batch) for i in range(len(self.layers))]

    def step(self, inputs_t: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """One step: (B,) tokens or (B, D) features to the head's output for that step (B, ...), and the next states."""
        x, following = self.mix_step(self.embed(inputs_t), state)
        output: Tensor = self.head(x[:, None], None)
        return output[:, 0], following

    def mix_step(self, x: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """One step of the layers: (B, width) to (B, last width), and the next states."""
        following = []
        for i in range(len(self.layers)):
            y, after = self._mixer(i).step(self._enter(i, x), state[i])
            x = self._skip(i, x, y)
            following.append(after)
        return self.norms[-1](x) if self.residual else x, following

    def forward_from(self, inputs: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """(B, T) tokens or (B, T, D) features after the ``state`` of all layers: the head's output, and the next state.

        Only of mixers that carry one (`Mixer.carries`).
        """
        embedded, following = self._embedded(inputs, ("forward_embedded_from", "forward_from")), []
        x = self.embed(inputs) if embedded is None or self.residual else inputs  # there nobody reads it
        for i in range(len(self.layers)):
            if i == 0 and embedded is not None:
                y, after = self._mixer(0).forward_embedded_from(embedded, state[0])
            else:
                y, after = self._mixer(i).forward_from(self._enter(i, x), state[i])
            x = self._skip(i, x, y)
            following.append(after)
        output: Tensor = self.head(self.norms[-1](x) if self.residual else x, None)
        return output, following

    def use_kernel(self, name: str) -> None:
        """Let every layer use kernels of ``name``: auto, torch or fast."""
        for mixer in self.mixers():
            mixer.choice = name

    def regularise(self, regularisers: Regularisers) -> None:
        """Regularise every layer as asked; all draw their masks from the generator of `dropout`."""
        if {"recurrent_dropout", "zoneout"} & {*regularisers.names}:
            for mixer in self.mixers():
                mixer.regularise(regularisers, self.dropout.chance)

    def incoming(self) -> list[nn.Parameter]:
        """The weights of all layers whose rows are what one unit reads."""
        return [weight for mixer in self.mixers() for weight in mixer.incoming()]

    def mixers(self) -> list[Mixer]:
        """All layers that mix over time."""
        return [self._mixer(i) for i in range(len(self.layers))]

    def _mixer(self, i: int) -> Mixer:
        mixer = self.layers[i]
        assert isinstance(mixer, Mixer)
        return mixer

    @property
    def causal(self) -> bool:
        """Whether no layer lets a step see a later one."""
        return all(self._mixer(i).causal for i in range(len(self.layers)))

    @property
    def steps(self) -> bool:
        """Whether all layers offer the step form."""
        return all(type(self._mixer(i)).step is not Mixer.step for i in range(len(self.layers)))

    def state_size(self, length: int) -> int:
        """Floats carried from step to step by all layers together."""
        return sum(_whole(self._mixer(i).state_size(length), length) for i in range(len(self.layers)))


def _embedding(shape: Shape, width: int) -> tuple[nn.Module, int]:
    """What embeds inputs of ``shape`` in ``width``, and the width that comes out; 0: features stay as they are."""
    check_embedding(width, shape.tokens)
    if shape.tokens:
        return nn.Embedding(shape.tokens, width), width
    return (nn.Linear(shape.features, width), width) if width else (nn.Identity(), shape.features)


def check_embedding(width: int | None, tokens: int) -> None:
    """Raise `UserError` where inputs of so many different ``tokens`` are to have no embedding."""
    if tokens and width == 0:
        raise UserError("--embedding 0 is for inputs that are numbers, and this task's are symbols: give a width.")


def _is_changed(module: nn.Module) -> bool:
    """Whether somebody has made more of ``module`` than what it was built as: calls of it must then be made."""
    plain = type(module) in (nn.Embedding, nn.Linear) or isinstance(module, Mixer)
    hooks = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return not plain or bool(hooks) or getattr(module, "max_norm", None) is not None


def _folds(mixer: nn.Module, embedded: str, plain: str) -> bool:
    """Whether ``mixer`` has its own way to read ``embedded`` inputs, that nobody has made stale, and is to take it."""
    if not isinstance(mixer, Mixer) or mixer.choice == "torch" or _is_changed(mixer):
        return False
    return not _defines(Mixer, embedded, type(mixer)) and _is_fresh(type(mixer), embedded, plain)


def _defines(cls: type[Any], name: str, of: type[Any]) -> bool:
    """Whether it is ``cls`` that the method ``name`` of the class ``of`` comes from."""
    return next((one for one in of.__mro__ if name in vars(one)), None) is cls


def _is_fresh(mixer: type[Mixer], other: str, plain: str) -> bool:
    """Whether the method ``other`` of ``mixer`` is not older than ``plain``: a subclass may have another of these."""
    places = [next(i for i, cls in enumerate(mixer.__mro__) if name in vars(cls)) for name in (other, plain)]
    return places[0] <= places[1]


def _carries(mixer: type[Mixer]) -> bool:
    """Whether ``mixer`` says that its state can be carried, and nobody has made the way stale in which that is done."""
    way = "step" if _defines(Mixer, "forward_from", mixer) else "forward_from"
    return mixer.carries and _is_fresh(mixer, way, "forward")


def _whole(size: Any, length: int) -> int:
    """``size`` if it is a count, as a user's own layer need not tell it."""
    if not isinstance(size, numbers.Real) or not float(size).is_integer() or float(size) < 0:
        raise TypeError(f"state_size({length}) must give a whole number of floats, not {brief(size)}")
    return int(float(size))


def shape_of(kind: str, data: TaskData) -> Shape:
    """What goes into a model of ``data`` for a task of ``kind``, and what comes out."""
    head = HEADS.get(kind)
    return Shape(len(data.vocabulary), len(data.features), head.outputs(data), head.every_step)


def build(
    model: str,
    kind: str,
    shape: Shape,
    widths: tuple[int, ...],
    dropout: float | tuple[float, ...] = 0.0,
    backbone: str = "bare",
    kernel: str = "auto",
    embedding: int | None = None,
    dense: tuple[int, ...] = (),
    regularisers: Regularisers = NOTHING,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> SequenceModel:
    """Model ``model`` with the head of ``kind`` for data of ``shape``.

    ``kernel`` is auto, torch (torch's own layers and operations) or fast (this package's), where a layer has both.
    ``dropout`` is a share after every layer, or one for each. ``embedding`` is the width in which inputs are embedded,
    by default that of the first layer; with 0 features are read as they are. ``dense`` layers stand before the output.
    ``options`` are those of the head's own frame (`Head.options`).

    Raises:
        NotApplicable: the kind predicts the future and the model sees it.
        UserError: a width or a regulariser that the mixer can't have, symbols without an embedding, a head without an
            output layer.
    """
    mixer, head = MODELS.get(model).mixer, HEADS.get(kind)
    if head.causal and not mixer.can_be_causal:
        raise NotApplicable(head.refusal.format(model=model, kind=kind))
    check_widths(model, widths)
    check_regularisers(model, regularisers)
    frame: type[SequenceModel] = head.frame or SequenceModel
    built = frame(mixer, head, shape, widths, dropout, backbone, embedding, dense, **options)
    built.use_kernel(kernel)
    built.regularise(regularisers)
    if regularisers.max_norm and not built.incoming():
        raise UserError(f"--max-norm is for the weights of units, and {model} has none that are known: leave it out.")
    return built


def check_widths(model: str, widths: tuple[int, ...]) -> None:
    """Raise `UserError` for a width that the mixer of ``model`` can't have."""
    multiple = MODELS.get(model).mixer.width_multiple
    for width in widths:
        if width % multiple:
            below, above = width - width % multiple, width - width % multiple + multiple
            choice = f"{below} or {above}" if below else str(above)
            raise UserError(f"--hidden {width}: the width of {model} must be a multiple of {multiple}; take {choice}.")


def check_frame_options(kind: str, given: Mapping[str, Any]) -> None:
    """Raise `UserError` where ``given`` settings are not for the frame of tasks of ``kind``."""
    options = HEADS.get(kind).options
    for name in given:
        if name not in options:
            able = ", ".join(other for other in HEADS.names() if name in HEADS.get(other).options)
            raise UserError(f"--{name} is for tasks of kind {able}, and this one is of kind {kind}: leave it out.")


def check_regularisers(model: str, regularisers: Regularisers) -> None:
    """Raise `UserError` for what the mixer of ``model`` can't be regularised by."""
    mixer = MODELS.get(model).mixer
    for name in regularisers.names:
        if name not in mixer.regularisers:
            able = ", ".join(other for other in MODELS.names() if name in MODELS.get(other).mixer.regularisers)
            raise UserError(f"--{name.replace('_', '-')} is not for {model}: leave it out, or take one of {able}.")
    if len(regularisers.zoneout) > 1 and not mixer.has_cells:
        raise UserError(f"--zoneout of cells and states is not for {model}, which has no cells: give one share.")


def check_carries(model: str, kind: str) -> None:
    """Raise `UserError` where training can't carry a state of ``model`` from window to window of a task of ``kind``."""
    if not HEADS.get(kind).in_order:
        able = ", ".join(other for other in HEADS.names() if HEADS.get(other).in_order)
        raise UserError(f"--carry-state is for tasks of kind {able}, and this one is of kind {kind}: leave it out.")
    if not _carries(MODELS.get(model).mixer):
        able = ", ".join(other for other in MODELS.names() if _carries(MODELS.get(other).mixer))
        raise UserError(f"--carry-state is not for {model}: leave it out, or take one of {able}.")


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def check_causal(model: SequenceModel, example: npt.NDArray[Any]) -> None:
    """Raise `NotApplicable` unless no step's output depends on a later step's input.

    The steps of ``example``, (1, T) tokens or (1, T, D) features, are differentiated by the embedded input, in
    evaluation mode: the outputs up to step k by the inputs after it, for steps k at every scale.
    """
    device = next(model.parameters()).device
    inputs = torch.as_tensor(example, device=device)
    was_training = model.training
    model.eval()
    # cuDNN differentiates recurrent layers in training mode only
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        embedded, x = model.traced(inputs)
        # not the plain sum: that of a normalised output is constant, and its derivative would hide everything
        weights = torch.linspace(-1.0, 2.0, x.shape[2], device=device, dtype=x.dtype).exp()
        steps = x.shape[1]
        for k in sorted({0, 1, 2, 4, steps // 4, steps // 2, steps - 2} & set(range(steps - 1))):
            (gradient,) = torch.autograd.grad((x[:, : k + 1] * weights).sum(), embedded, retain_graph=True)
            if not (gradient[:, k + 1 :] == 0).all():
                raise NotApplicable(f"the output up to step {k} depends on later steps, which this task is to predict")
    model.train(was_training)
