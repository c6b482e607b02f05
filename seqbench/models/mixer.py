"""The contract of a mixer: the layer that mixes information over time, the only thing that differs between models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.dropout import Chance
from seqbench.registry import Registry

__all__ = [
    "MODELS",
    "Embedded",
    "Mixer",
    "ModelSpec",
    "Regularisers",
    "real_steps",
    "register_model",
    "repeated",
    "reverse_within",
    "starts",
    "widened",
]

State = Any  # a tensor or a tuple of tensors, as the mixer likes
M = TypeVar("M", bound="type[Mixer]")
MODELS: Registry[ModelSpec] = Registry("model", "seqbench.models", group="seqbench.models")


class Embedded(NamedTuple):
    """What a first layer reads, before it is embedded: (B, T) ``inputs`` that are rows of the table ``weight`` (V, D),
    or, where there is a ``bias`` (D,), (B, T, F) ``inputs`` that the linear map of ``weight`` (D, F) takes to D."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None

    def values(self) -> Tensor:
        """(B, T, D)."""
        if self.bias is None:
            return F.embedding(self.inputs, self.weight)
        return F.linear(self.inputs, self.weight, self.bias)


@dataclass(frozen=True)
class Regularisers:
    """What is asked of a layer against overfitting, beside the dropout after it; nothing by default.

    Attributes:
        recurrent_dropout: share of the state's entries that the recurrent product does not see in training, the same
            at all steps of a sequence (Gal and Ghahramani 2016).
        zoneout: probability with which a unit keeps its last value at a step of training (Krueger et al. 2016): of
            cells and states, or of both; empty for none.
        max_norm: the norm that no unit's incoming weights exceed after a step of training (Srebro and Shraibman 2005).
    """

    recurrent_dropout: float = 0.0
    zoneout: tuple[float, ...] = ()
    max_norm: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Regularisers:
        """What ``config``, of a run or of its record, says; older records don't."""
        chosen: dict[str, Any] = {item.name: config[item.name] for item in fields(cls) if config.get(item.name)}
        if "zoneout" in chosen:  # a list in a record
            chosen["zoneout"] = tuple(chosen["zoneout"])
        return cls(**chosen)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are asked for."""
        return tuple(item.name for item in fields(self) if getattr(self, item.name))


class Mixer(nn.Module):
    """``mixer(x, lengths) -> y``: (B, T, d_in) to (B, T, d_out).

    ``lengths`` (B,) counts the real steps of each row, None where all T are real. What stands in the padding must not
    change any real step's output; what is returned at padded steps is ignored.

    Attributes:
        can_be_causal: whether it can be built so that step t sees nothing after t.
        width_multiple: d_out must be a multiple of this.
        initialisations: names of the ways in which its weights can start, the one that the constructor uses first;
            part of every result about memory.
        regularisers: names of the fields of `Regularisers` that it can be given. ``max_norm`` needs no more than that
            `incoming` finds its weights; for the others it must define `regularise`.
        has_cells: whether its state has cells beside what it gives out, for which zoneout can be told apart.
        carries: whether its state sums up all that was read in as many numbers whatever its length, so that training
            may go on with the state of the text before a window (``--carry-state``). Then it offers `step`, or
            `forward_from` itself, and every tensor of a state has one row for each sequence.
        traceable: whether `torch.export` can follow `forward` for sequences of any length at once: no loop over steps
            in Python, and no decision by a length. Of others an exported model repeats `step`.
        choice: which kernels it is to use where it has several, auto, torch or fast; set after it is built.
    """

    can_be_causal: ClassVar[bool] = True
    width_multiple: ClassVar[int] = 1
    initialisations: ClassVar[tuple[str, ...]] = ("default",)
    regularisers: ClassVar[frozenset[str]] = frozenset({"max_norm"})
    has_cells: ClassVar[bool] = False
    carries: ClassVar[bool] = False
    traceable: ClassVar[bool] = False
    choice: str = "auto"

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__()
        self.d_in, self.d_out, self.causal = d_in, d_out, causal

    def forward_embedded(self, embedded: Embedded, lengths: Tensor | None = None) -> Tensor:
        """``forward(embedded.values(), lengths)``, to rounding.

        A layer whose own first act is a linear map can multiply the two maps first: of a small vocabulary only the
        rows of the table go through the product then, not every step.
        """
        output: Tensor = self(embedded.values(), lengths)
        return output

    def forward_embedded_from(self, embedded: Embedded, state: State) -> tuple[Tensor, State]:
        """``forward_from(embedded.values(), state)``, to rounding, in the way of `forward_embedded`."""
        return self.forward_from(embedded.values(), state)

    def initialise(self, name: str) -> None:
        """Start again as ``name``, one of `initialisations`, says; called right after the constructor, if at all."""
        raise TypeError(f"{type(self).__name__} must define initialise(name)")

    def regularise(self, regularisers: Regularisers, chance: Chance) -> None:
        """Regularise from now on as asked, in training with masks that are drawn from ``chance``; called at most once.

        Without masks, in evaluation, zoneout keeps that share of each unit's last value, in `step`, too.
        """
        raise TypeError(f"{type(self).__name__} must define regularise(regularisers, chance)")

    def incoming(self) -> list[nn.Parameter]:
        """The weights whose rows are what one unit reads: those of torch's linear, convolution and recurrent layers."""
        kinds = (nn.Linear, nn.Conv1d, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
        layers = (module for module in self.modules() if isinstance(module, kinds))
        return [weight for layer in layers for weight in layer.parameters(recurse=False) if weight.dim() > 1]

    def state_size(self, length: int) -> int:
        """Floats carried from step to step after ``length`` steps, for one sequence."""
        raise TypeError(f"{type(self).__name__} must define state_size(length)")

    def initial_state(self, batch: int) -> State:
        """The state before the first step; only for mixers that offer `step`."""
        raise TypeError(f"{type(self).__name__} offers no step form")

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of a causal mixer: (B, d_in) and the state to (B, d_out) and the next; equals `forward` to 1e-5."""
        raise TypeError(f"{type(self).__name__} offers no step form")

    def forward_from(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T, d_in) and the state before it to (B, T, d_out) and the state after it: `step` by step, here.

        A gradient need not reach either state: whoever carries one cuts it there.
        """
        outputs = []
        for x_t in x.unbind(1):
            y, state = self.step(x_t, state)
            outputs.append(y)
        return torch.stack(outputs, dim=1), state


@dataclass(frozen=True)
class ModelSpec:
    """A registered model: a mixer class under a name, with a version that changes when its behaviour does."""

    name: str
    version: int
    description: str
    mixer: type[Mixer]


def register_model(name: str, *, version: int = 1, aliases: tuple[str, ...] = ()) -> Callable[[M], M]:
    """Register the decorated `Mixer` as model ``name``; the first line of its docstring describes it."""

    def decorate(mixer: M) -> M:
        description = (mixer.__doc__ or "").strip().partition("\n")[0]
        spec = ModelSpec(name, version, description, mixer)
        MODELS.add(name, spec, aliases=aliases, module=mixer.__module__)
        return mixer

    return decorate


def real_steps(lengths: Tensor, length: int) -> Tensor:
    """(B, T) true where a step is real."""
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def reverse_within(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T, D) with the real steps of each row in reverse order; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    source = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, source[:, :, None].expand_as(x))


def repeated(step: Callable[[Any, Any], tuple[Any, Tensor]], state: Any, inputs: Any) -> Tensor:
    """(B, T, ...) what ``step`` gives at each step, for `torch.export`, which keeps it as one loop of any length.

    ``step(state, x_t)`` takes the state and the inputs of one step, both as they are given here, but for the dimension
    of steps, to the next state and an output (B, ...). ``inputs`` are tensors (B, T, ...), alone or in a tuple.
    """
    from torch._higher_order_ops.scan import scan  # imports torch's compiler, which nothing but an export needs
    from torch.utils import _pytree as trees

    def whole(tree: Any) -> list[Tensor]:  # as the loop wants what it carries: of one layout at every step
        return [part.clone(memory_format=torch.contiguous_format) for part in trees.tree_leaves(tree)]

    kept, form = trees.tree_flatten(state)
    rows, shape = trees.tree_flatten(inputs)

    def body(carried: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        following, y = step(trees.tree_unflatten(carried, form), trees.tree_unflatten(now, shape))
        return whole(following), y.clone()

    _, outputs = scan(body, whole(kept), [row.transpose(0, 1) for row in rows])
    by_row: Tensor = outputs.transpose(0, 1)
    return by_row


def starts(*parameters: nn.Parameter) -> bool:
    """Whether ``parameters`` have values to start from: on the meta device they have shapes only.

    Arithmetic there would import PyTorch's compiler, and `--params` builds a model a dozen times.
    """
    return not any(parameter.is_meta for parameter in parameters)


def widened(x: Tensor) -> Tensor:
    """``x``, in 32 bits where autocast has made it 16: what is added up over many steps needs them."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
