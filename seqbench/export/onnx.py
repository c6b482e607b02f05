"""A trained model as an ONNX file, for programs without PyTorch: made, and then held to what seqbench itself predicts.

`torch.export` follows the model, and torch turns what it saw into ONNX. So that one file serves sequences of any
length, no loop in Python may be followed step by step. There are three ways around that, tried in this order:

1. `traced`: the layer's own `forward`, of layers that are the same operations at any length (`Mixer.traceable`). The
   recurrent layers that ONNX has become its own (`_OwnLayer`), with the weights in its order.
2. `stepped`: the layer's step form in ONNX's loop over steps (Scan), of all layers that have one.
3. `unrolled`: `forward` at one length. Shorter sequences are padded where the task has lengths; no others fit.

The file is run by ONNX Runtime on rows of the test split, whole and alone, cut and doubled, before it gets its name.
Where it differs from the model there is none.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.disk import replace_file
from seqbench.environment import seqbench_version
from seqbench.errors import UserError
from seqbench.export.packages import need
from seqbench.models.backbone import SequenceModel
from seqbench.models.kernels.layer import Peepholes
from seqbench.models.mixer import real_steps, repeated
from seqbench.predictions import Trained
from seqbench.prepare import prepare
from seqbench.report.text import short
from seqbench.training import DeviceSplit

if TYPE_CHECKING:
    from onnx import ModelProto

    from seqbench.data import Split

__all__ = ["TOLERANCE", "Exported", "RealRows", "converted", "export_onnx"]

TOLERANCE = 1e-5  # times 1 + |value|: what the file's outputs may differ by from the model's
MOST_ROWS, MOST_STEPS = 64, 16_384  # of the test split that it is checked on, and steps of them together
STEPS = 6  # that the model is followed on
FEW = 3  # rows that are checked alone, cut and doubled
CPU = torch.device("cpu")
SIZES = {"inputs": ("batch", "length"), "lengths": ("batch",), "written": ("batch", "pieces")}  # that may differ

Say = Callable[[str], None]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """What was written: how the model was followed, on how many test rows it was checked, and how far off it is.

    ``worst`` is the greatest absolute difference of an output, ``share`` the greatest over 1 + |value|.
    """

    path: Path
    form: str
    fits: str
    rows: int
    worst: float
    share: float
    size: int


class RealRows(NamedTuple):
    """Real rows: (B, T) tokens or (B, T, D) features, (B,) lengths, and (B, S) what a model that writes has written."""

    inputs: Tensor
    lengths: Tensor | None = None
    written: Tensor | None = None

    def of(self, which: slice, steps: int | None = None) -> RealRows:
        """Some of them, cut to so many ``steps``; by default to the longest of them."""
        inputs, lengths, written = (None if part is None else part[which] for part in self)
        assert inputs is not None
        longest = inputs.shape[1] if lengths is None else int(lengths.max())
        steps = longest if steps is None else steps
        return RealRows(inputs[:, :steps], None if lengths is None else lengths.clamp(max=steps), written)

    def doubled(self) -> RealRows:
        """Twice as long: what stands in a row stands there twice."""
        lengths = None if self.lengths is None else self.lengths + self.inputs.shape[1]
        written = None if self.written is None else torch.cat([self.written, self.written], dim=1)
        return RealRows(torch.cat([self.inputs, self.inputs], dim=1), lengths, written)

    def named(self) -> dict[str, Tensor]:
        """Those that there are, by their names in the file."""
        return {name: part for name, part in self._asdict().items() if part is not None}


def export_onnx(
    record: Path, out: Path, data: Path | None = None, test: Path | None = None, say: Say = lambda line: None
) -> Exported:
    """Write the trained model of ``record`` (a record.json, or its folder) to ``out``, after it was checked.

    ``data`` and ``test`` are the files of a run on a user's own.

    Raises:
        UserError: a package or the model is missing, the test rows can't be had, no form of the model can be followed
            or differs from it by less than `TOLERANCE`, or ``out`` can't be written.
    """
    need("onnx", "onnx", "onnxruntime", "onnxscript")
    if out.suffix != ".onnx":
        raise UserError(f"--out {out.name} must end in .onnx.")
    trained = Trained.of(record)
    split = _test_split(trained, data, test, say)
    config = RunConfig(task=trained.record.task.name, model=trained.record.model.name, threads=1)
    with settings(CPU, config), torch.no_grad():
        model = trained.model(split).eval()
        rows = _rows(model, split)
        proto, form, found = converted(model, rows, split.sequence_length, say)
        _describe(proto, trained, model, form, found)
        content = proto.SerializeToString()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror}): choose another --out.") from None
    return Exported(out, form.name, form.fits, len(rows.inputs), *found, len(content))


def _test_split(trained: Trained, data: Path | None, test: Path | None, say: Say) -> Split:
    """The test split that the run was scored on."""
    task = trained.record.task
    if task.source == "path" and data is None:
        raise UserError("this run was on a file of yours, whose test rows the export is checked on: add --data FILE.")
    if task.test_file and test is None:
        raise UserError("the test of this run was a second file, on which the export is checked: add --test FILE.")
    prepared = prepare(task.name, dict(task.options), task.source, say, data, test)
    if prepared.data_sha256 != task.data_sha256:
        raise UserError("the data is not what this run was scored on: name the same files, or train it again.")
    return prepared.data.test


def _rows(model: SequenceModel, split: Split) -> RealRows:
    """RealRows of ``split`` from one end to the other, of all lengths where these differ."""
    count = min(len(split), MOST_ROWS, max(4, MOST_STEPS // split.sequence_length))
    order = np.arange(len(split)) if split.lengths is None else np.argsort(split.lengths, kind="stable")
    batch = DeviceSplit(split, CPU)[order[np.linspace(len(split) - 1, 0, count).round().astype(int)]]
    written = None
    if model.writes:
        written = nn.functional.pad(model.answer(batch), (0, 1))
    return RealRows(batch.inputs, batch.lengths, written)


# --- following the model --------------------------------------------------------------------------------------------


class _Told(nn.Module):
    """What is followed: the model on inputs of one length, where there are no others, or of the lengths given."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor | None = None, written: Tensor | None = None) -> Tensor:
        if lengths is None:  # a number made of a length could not be followed, a tensor can
            lengths = torch.full((inputs.shape[0],), inputs.shape[1], device=inputs.device)
        return self.model.told(inputs, lengths, written)


class _OwnLayer(nn.Module):
    """A layer of torch.nn as the operator that ONNX has for it, with the same weights."""

    OPERATORS = {  # noqa: RUF012 - of layers the operator, and in which order it has their gates
        nn.LSTM: ("LSTM", (0, 3, 1, 2)),  # i o f c
        Peepholes: ("LSTM", (0, 3, 1, 2)),
        nn.GRU: ("GRU", (1, 0, 2)),  # z r h
        nn.RNN: ("RNN", (0,)),
    }
    VERSION = 14  # of the operators

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.operator, order = self.OPERATORS[type(layer)]
        self.hidden_size = layer.hidden_size

        def ordered(name: str) -> Tensor:
            gates = getattr(layer, f"{name}_l0").detach().chunk(len(order))
            return torch.cat([gates[i] for i in order])

        self.inputs, self.recurrent = (nn.Buffer(ordered(f"weight_{part}")[None]) for part in ("ih", "hh"))
        self.bias = nn.Buffer(torch.cat([ordered("bias_ih"), ordered("bias_hh")])[None])
        self.register_buffer("peepholes", None)
        if isinstance(layer, Peepholes):
            of_i, of_f, of_o = layer.peepholes.detach().chunk(3)
            self.peepholes = torch.cat([of_i, of_o, of_f])[None]

    @classmethod
    def has(cls, layer: nn.Module) -> TypeGuard[nn.RNNBase]:
        """Whether there is an operator for ``layer``: one layer in one direction, as all mixers here have them."""
        if type(layer) not in cls.OPERATORS or not isinstance(layer, nn.RNNBase):
            return False
        one_way = layer.num_layers == 1 and not layer.bidirectional and not layer.proj_size
        return one_way and layer.bias and layer.batch_first and getattr(layer, "nonlinearity", "tanh") == "tanh"

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, T, D) to (B, T, H), and nothing in place of the last state."""
        B, T, _ = x.shape
        attributes: dict[str, Any] = {"hidden_size": self.hidden_size}
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1
        inputs: list[Any] = [x.transpose(0, 1), self.inputs, self.recurrent, self.bias]
        if self.peepholes is not None:
            inputs += [None, None, None, self.peepholes]
        y = torch.onnx.ops.symbolic(
            self.operator,
            inputs,
            attributes,
            dtype=x.dtype,
            shape=(T, 1, B, self.hidden_size),
            version=self.VERSION,
        )
        return y[:, 0].transpose(0, 1), None


def _with_own_layers(model: SequenceModel) -> SequenceModel:
    """``model`` with the layers that ONNX has in place of torch's."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if _OwnLayer.has(child):
                setattr(module, name, _OwnLayer(child))
    return model


def _stepping(model: SequenceModel) -> SequenceModel:
    """``model`` with layers that repeat their step."""
    for mixer in model.mixers():

        def forward(x: Tensor, lengths: Tensor | None = None, mixer: Any = mixer) -> Tensor:
            def step(state: Any, x_t: Tensor) -> tuple[Any, Tensor]:
                y, state = mixer.step(x_t, state)
                return state, y

            return repeated(step, mixer.initial_state(x.shape[0]), x)

        mixer.forward = forward  # of this copy alone
    return model


class _Form(NamedTuple):
    """One way to follow a model: how it is changed for that, and whether sequences of any length fit."""

    name: str
    changed: Callable[[SequenceModel], SequenceModel]
    length: int | None  # the only one that fits

    @property
    def fits(self) -> str:
        return "any batch, any length" if self.length is None else f"any batch, length {self.length} exactly"


def _forms(model: SequenceModel, length: int) -> Iterator[_Form]:
    """The ways that there are for ``model``, the best first."""
    if all(mixer.traceable for mixer in model.mixers()) or not model.steps:
        yield _Form("traced", _with_own_layers, None)
    if model.steps:
        yield _Form("stepped", _stepping, None)
    if not model.writes:  # source and target would need a length each
        yield _Form("unrolled", lambda same: same, length)


def converted(
    model: SequenceModel, rows: RealRows, length: int, say: Say = lambda line: None
) -> tuple[ModelProto, _Form, tuple[float, float]]:
    """``model`` as ONNX, the form that it was followed in, and the differences from it on ``rows``, as `Exported` has
    them; ``length`` is that of the task's sequences.

    Raises:
        UserError: it could be followed in no form, or the file differs.
    """
    reasons = []
    for form in _forms(model, length):
        say(f"following the model: {form.name}, for {form.fits}")
        try:
            proto = _traced(form, copy.deepcopy(model).requires_grad_(requires_grad=False), rows)
            return proto, form, _checked(proto, form, model, rows)
        except Exception as error:  # a layer may do anything, and what follows it may fail at anything
            reasons.append(f"{form.name}: {_in_short(error)}")
            say(reasons[-1])
    raise UserError(f"this model can't be exported to ONNX ({'; '.join(reasons)}).")


def _in_short(error: Exception) -> str:
    """The cause of ``error``, in a line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    fixed = re.match(r"Constraints violated \((.+?)\)", lines[0])
    return f"its code takes the {fixed[1]} for a number that is fixed" if fixed else short(lines[0].strip(), 160)


def _traced(form: _Form, model: SequenceModel, rows: RealRows) -> ModelProto:
    """The ONNX of ``model``, which is a copy and may be changed."""
    model.use_kernel("torch")  # what this package has in C can't be followed
    told = _Told(form.changed(model))
    few = _example(rows) if form.length is None else _padded(rows, form.length)
    batch, length = (torch.export.Dim(name) for name in ("batch", "length"))
    written = torch.export.Dim("pieces", min=3)  # all but the first could be one; fewer are checked, too
    sizes = {
        "inputs": {0: batch} | ({1: length} if form.length is None else {}),
        "lengths": {0: batch},
        "written": {0: batch, 1: written},
    }
    named = {name: torch.cat([tensor[:1], tensor[-1:]]) for name, tensor in few.named().items()}
    torch.compiler.reset()  # of one kind of loop it keeps no more than a few
    with _quiet():
        seen = torch.export.export(told, (), named, dynamic_shapes={name: sizes[name] for name in named}, strict=False)
        program = torch.onnx.export(seen, dynamo=True, verbose=False, output_names=["output"])
        assert program is not None
        proto: ModelProto = program.model_proto
    _tidy(proto)
    return proto


def _tidy(proto: ModelProto) -> None:
    """Take out what torch notes of where in the source each operation stood, and name the sizes that may differ."""
    names: dict[str, str] = {}
    for value in proto.graph.input:
        sizes = value.type.tensor_type.shape.dim
        names |= {size.dim_param: name for size, name in zip(sizes, SIZES[value.name], strict=False) if size.dim_param}
    graphs: list[Any] = [proto.graph, *proto.functions]
    while graphs:
        graph = graphs.pop()
        values = [*graph.value_info]
        if graph.DESCRIPTOR.name == "GraphProto":  # a function has the names of its inputs alone
            values += [*graph.input, *graph.output]
        for part in (graph, *graph.node, *values):
            del part.metadata_props[:]
        for size in (size for value in values for size in value.type.tensor_type.shape.dim if size.dim_param):
            size.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), size.dim_param)
        graphs += [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]


def _example(rows: RealRows) -> RealRows:
    """``rows`` of a few steps, but not of one: where a size is 1, what is followed may hold for 1 only."""
    while rows.inputs.shape[1] < 2:
        rows = rows.doubled()
    return rows.of(slice(None), min(STEPS, rows.inputs.shape[1]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says to those who write exporters."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    before = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


# --- checking -------------------------------------------------------------------------------------------------------


def _checked(proto: ModelProto, form: _Form, model: SequenceModel, rows: RealRows) -> tuple[float, float]:
    """The greatest difference from ``model``, and the greatest over 1 + |value|; raises `ValueError` if it is too
    great.
    """
    import onnx
    import onnxruntime

    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    worst = share = 0.0
    for part in _parts(rows, form):
        (got,) = session.run(None, {name: tensor.numpy() for name, tensor in part.named().items()})
        want = model.told(*part).numpy()
        if got.shape != want.shape:
            raise ValueError(f"the file gives {got.shape} where the model gives {want.shape}")
        got, want = _real(got, part, model), _real(want, part, model)
        difference = np.abs(got - want)
        if not np.isfinite(difference).all():
            raise ValueError("the file gives a value that is no number")
        worst = max(worst, float(difference.max()))
        share = max(share, float((difference / (1 + np.abs(want))).max()))
        if share > TOLERANCE:
            raise ValueError(f"the file differs from the model by {worst:.2g}")
    return worst, share


def _parts(rows: RealRows, form: _Form) -> Iterator[RealRows]:
    """What is checked: all rows; some alone; and, if any length fits, some cut to one step and to half, and doubled."""
    few = range(min(FEW, len(rows.inputs)))
    if form.length is not None:
        yield _padded(rows, form.length)
        yield from (_padded(rows.of(slice(i, i + 1)), form.length) for i in few)
        return
    yield rows
    yield from (rows.of(slice(i, i + 1)) for i in few)
    some = rows.of(slice(0, FEW))
    yield from (some.of(slice(None), steps) for steps in (1, max(1, some.inputs.shape[1] // 2)))
    yield some.doubled()
    if some.written is not None:
        yield from (some._replace(written=some.written[:, :pieces]) for pieces in (1, 2))


def _padded(rows: RealRows, length: int) -> RealRows:
    """With zeros up to ``length`` steps."""
    features = [0, 0] * (rows.inputs.dim() - 2)
    return rows._replace(inputs=nn.functional.pad(rows.inputs, [*features, 0, length - rows.inputs.shape[1]]))


def _real(output: Array, rows: RealRows, model: SequenceModel) -> Array:
    """The outputs of real steps, (B, ...) or (M, ...)."""
    if rows.written is not None:
        steps = (rows.written > 0).sum(dim=1) + 1  # and what follows the last piece
        real: Array = real_steps(steps, rows.written.shape[1]).numpy()
    elif rows.lengths is None or not model.head.every_step:
        return output
    else:
        real = real_steps(rows.lengths, rows.inputs.shape[1]).numpy()
    kept: Array = output[real]
    return kept


def _describe(
    proto: ModelProto, trained: Trained, model: SequenceModel, form: _Form, found: tuple[float, float]
) -> None:
    """Say in ``proto`` what it is, what it reads and what it tells."""
    record, reading = trained.record, trained.kept
    inputs = {
        "inputs": "int64 (batch, length) symbols" if model.tokens else "float32 (batch, length, features)",
        "lengths": "int64 (batch,) real steps of each row; what stands after them changes nothing",
        "written": "int64 (batch, pieces) what is written so far; the output at a step is of the pieces before it",
    }
    about = {
        "seqbench": seqbench_version(),
        "record": record.key,
        "task": f"{record.task.name} {record.task.version}",
        "kind": record.task.kind,
        "model": f"{record.model.name} {record.model.version}",
        "form": form.name,
        "fits": form.fits,
        **{value.name: inputs[value.name] for value in proto.graph.input},
        "output": model.head.telling,
        "reading": reading,
        "worst_difference": f"{found[0]:.3g}",
    }
    for name, value in about.items():
        proto.metadata_props.add(key=name, value=value)
    proto.graph.name = record.model.name
    proto.doc_string = (
        f"{record.model.name} trained on {record.task.name} by seqbench {about['seqbench']}, for {form.fits}. The "
        "metadata says what it reads and tells; `reading` has the vocabulary, the features and their scales, and the "
        "classes, as model.json of the run."
    )
