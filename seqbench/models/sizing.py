"""Choosing a width by the number of parameters, for any registered model, and counting FLOPs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from seqbench.errors import UserError
from seqbench.models.backbone import SequenceModel, build, count_parameters
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS

__all__ = ["count_flops", "flops_per_sample", "nearest_width", "width_for"]

WIDEST = 1 << 16


def width_for(params: int, model: str, kind: str, shape: Shape, layers: int, backbone: str, **more: Any) -> int:
    """The width (all ``layers`` alike) whose parameter count is nearest to ``params``.

    Args:
        more: what else `build` is given of the model's form.

    Raises:
        UserError: even the narrowest model has more.
    """

    def count(width: int) -> int:
        return count_parameters(build(model, kind, shape, (width,) * layers, backbone=backbone, **more))

    return nearest_width(params, model, count, MODELS.get(model).mixer.width_multiple)


def nearest_width(params: int, model: str, count_at: Callable[[int], int], multiple: int) -> int:
    """The multiple of ``multiple`` at which ``count_at``, a rising function, comes nearest to ``params``.

    Raises:
        UserError: even the narrowest has more.
    """

    def count(units: int) -> int:
        with torch.device("meta"):  # shapes only: no memory, no time
            return count_at(units * multiple)

    low, high = 1, 2
    if count(low) > params:
        raise UserError(f"--params {params}: the narrowest {model} for this task has {count(low)} parameters.")
    while count(high) < params:
        low, high = high, 2 * high
        if high * multiple > WIDEST:
            raise UserError(f"--params {params} is more than a {model} of width {WIDEST} has.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= params else (low, middle)
    return multiple * min((low, high), key=lambda units: abs(count(units) - params))


def flops_per_sample(model: SequenceModel, length: int) -> int | None:
    """`count_flops` of one forward pass over one sequence of ``length`` steps."""
    return count_flops(model, model.shape.example(1, length, "meta"))


def count_flops(module: nn.Module, inputs: Tensor) -> int | None:
    """Floating-point operations of ``module(inputs, None)``, with ``inputs`` on the meta device.

    A backward pass costs twice as many. Counted by torch's own formulas on the meta device, where the recurrent kernels
    fall apart into matrix products: two operations for each multiply-add, element-wise work left out (as is usual), all
    T^2 pairs of attention, masked or not. None for a plug-in that can't run there: on a real device fused kernels would
    go uncounted.
    """
    try:
        shadow = copy.deepcopy(module).to("meta").eval()
        try:
            with _Products() as products, _Layers(products), torch.no_grad():
                shadow(inputs, None)
            return int(products.flops)
        except Exception:
            if "torch._dynamo" not in sys.modules:
                raise
            # an operation that takes functions, such as torch.cond, needs the compiler and torch's own counter
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                shadow(inputs, None)
            return int(counter.get_total_flops())
    except Exception:  # whatever a user's own layer does with values that are not there
        return None


aten = torch.ops.aten


def _last_product(a: Tensor, b: Tensor, *unused: Any, **kwargs: Any) -> Tensor:
    """Shape of ``a @ b``."""
    return a.new_empty(*a.shape[:-1], b.shape[-1])


def _sum_with_product(c: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
    """Shape of ``c + a @ b``."""
    return _last_product(a, b)


def _embedded(weight: Tensor, indices: Tensor, *unused: Any) -> Tensor:
    return weight.new_empty(*indices.shape, weight.shape[1])


def _concatenated(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    tensors = [x for x in tensors if x.shape != (0,)] or tensors  # which torch takes for nothing at all
    shape = list(tensors[0].shape)
    shape[dim] = sum(x.shape[dim] for x in tensors)
    return tensors[0].new_empty(shape)


def _stacked(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return tensors[0].new_empty(shape)


def _elementwise(*args: Any, **kwargs: Any) -> Tensor:
    tensors = [x for x in args if isinstance(x, Tensor)]
    return tensors[0].new_empty(np.broadcast_shapes(*(x.shape for x in tensors)))


def _in_place(x: Tensor, *unused: Any, out: Tensor | None = None, **kwargs: Any) -> Tensor:
    return x if out is None else out


def _solved(a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
    """Shape of the solution of ``a x = b``, whose operations torch has no formula for."""
    return b.new_empty(b.shape)


def _reduced(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    over = {dim % x.ndim for dim in dims or range(x.ndim)}
    return x.new_empty([1 if i in over else n for i, n in enumerate(x.shape) if keepdim or i not in over])


def _norm(
    x: Tensor, order: float = 2, dims: Sequence[int] | None = None, keepdim: bool = False, **kwargs: Any
) -> Tensor:
    """Shape of the lengths of vectors."""
    return _reduced(x, dims, keepdim)


def _normalised(x: Tensor, shape: Sequence[int], *unused: Any) -> tuple[Tensor, Tensor, Tensor]:
    """With the mean and the inverse deviation."""
    moments = x.shape[: x.ndim - len(shape)] + (1,) * len(shape)
    return x.new_empty(x.shape), x.new_empty(moments), x.new_empty(moments)


def _numbers(*args: Any, device: Any = None, pin_memory: Any = None, **kwargs: Any) -> Tensor:
    """Of `torch.arange`."""
    return torch.arange(*args, **kwargs).to(device)


# of one shape or of shapes that are spread to one
ELEMENTWISE = [
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.neg.default, aten.flip.default),
    *(aten.tanh.default, aten.sigmoid.default, aten.relu.default, aten.gelu.default, aten.silu.default),
    *(aten.exp.default, aten.sin.default, aten.cos.default, aten._softmax.default, aten.pow.Tensor_Scalar),
    *(aten.pow.Scalar, aten.masked_fill.Scalar, aten.clone.default, aten.rsub.Scalar, aten.softplus.default),
    *(aten.abs.default, aten.maximum.default, aten.gt.Tensor, aten.clamp.default, aten.log.default, aten.roll.default),
]
SHAPES: dict[Any, Callable[..., Any]] = {  # operations whose meta kernels import the compiler
    aten.mm.default: _last_product,
    aten.bmm.default: _last_product,
    aten.addmm.default: _sum_with_product,
    aten.baddbmm.default: _sum_with_product,
    aten.embedding.default: _embedded,
    aten.cat.default: _concatenated,
    aten.stack.default: _stacked,
    aten.linalg_vector_norm.default: _norm,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), _numbers),
    aten.addcmul_.default: _in_place,
    aten.mul.out: _in_place,
    aten.sum.dim_IntList: _reduced,
    aten.mean.dim: _reduced,
    aten.amax.default: _reduced,
    aten.linalg_solve_triangular.default: _solved,
    aten.native_layer_norm.default: _normalised,
}


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook for subclasses
    """Adds up the FLOPs of what runs inside, on the meta device, as `FlopCounterMode` does.

    That one imports torch's compiler, only to keep it away from the counting; so do torch's own meta kernels of matrix
    products. The import takes longer than all else that a cell does beside its training.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Asked by torch, which imports its compiler where this is true."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            raise TypeError(f"{func} is no plain operation")
        tensors = [x for x in args if isinstance(x, Tensor)]
        # what other devices and types give is torch's to say
        plain = all(x.is_meta for x in tensors) and len({x.dtype for x in tensors if x.is_floating_point()}) < 2
        shape = SHAPES.get(func) if plain else None
        if shape is None and func is not torch.ops.prim.device.default:
            with self:  # what torch makes of smaller operations is counted in those
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = (shape or func)(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        return result


class _Layers(TorchFunctionMode):
    """Adds to ``products`` what recurrent layers and attention take, which torch would take apart.

    In each step of each sequence every matrix of a recurrent layer's weights is multiplied once; that would be a dozen
    operations to look at for every step. Attention multiplies all queries by all keys, and the weights by all values.
    """

    recurrent = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)

    def __init__(self, products: _Products) -> None:
        super().__init__()
        self.products = products

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in self.recurrent and len(args) == 9 and args[0].is_meta and isinstance(args[3], bool):
            return self._recur(*args)  # else it is a packed sequence
        if func is F.scaled_dot_product_attention and len(args) >= 3 and all(x.is_meta for x in args[:3]):
            q, k, v = args[:3]
            if q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
                self.products.flops += 2 * q.numel() * k.shape[-2] + 2 * q.shape[-2] * v.numel()
                return q.new_empty(*q.shape[:-1], v.shape[-1])
        return func(*args, **(kwargs or {}))

    def _recur(self, x: Tensor, hx: Any, weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, ...]:
        """Outputs of every step, and the last states."""
        self.products.flops += 2 * x.shape[0] * x.shape[1] * sum(w.numel() for w in weights if w.ndim == 2)
        states = hx if isinstance(hx, list | tuple) else [hx]
        output = x.new_empty(*x.shape[:2], states[0].shape[2] * (2 if options[-2] else 1))
        return output, *(state.new_empty(state.shape) for state in states)
