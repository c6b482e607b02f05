"""Training one model: the loop (`fit`), its batches, its optimiser, its checkpoints, and prediction.

The clock runs only over training: it is stopped, with the device idle, while the validation split is read. Nothing is
logged and nothing is waited for inside the timed region; the loss is summed on the device and looked at when the
clock stands still or a progress line is due.

Data lies on the device; a batch is one gather there. Where lengths vary, a batch holds sequences of like length and is
cut to the longest, and the order of batches is shuffled, not the lengths within. The optimiser is torch's own fused
AdamW without its class, which imports the whole compiler: 1.5 s in every process, and a grid has one for each job. A
checkpoint holds all that decides how training goes on, so that a run that was killed ends with the numbers of one that
was not, to the last bit on a CPU; the order of batches needs no place in it: it is drawn again from the seed. One is
written at checks, as long as that takes less than a hundredth of the time, and when Ctrl-C ends the run.

Where the state is carried (``--carry-state``), each row of a batch goes on in the text where it ended in the batch
before, with the state that it had there, and the gradient ends at the border: truncated back-propagation through time
(Williams and Peng 1990). A row that begins elsewhere begins with the first state. `Carried` holds the states, which are
part of a checkpoint.

On CUDA a small model waits for Python to launch its kernels. Where all batches have one shape, the step
(`TrainingStep`) is therefore captured once as a CUDA graph and replayed (`CapturedStep`). The steps that prepare this
change nothing: every step that counts is a replay, in a run that goes on from a checkpoint, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from seqbench.config import RunConfig
from seqbench.data import Batch, InOrder, Split, Stream, TaskData
from seqbench.device import device_name, peak_memory, reset_peak_memory, synchronize
from seqbench.disk import replace_file
from seqbench.environment import seqbench_version
from seqbench.errors import Diverged, Interrupted
from seqbench.models.backbone import SequenceModel
from seqbench.process import CtrlC
from seqbench.task import Budget, TaskSpec

__all__ = [
    "CHECKPOINT",
    "AdamW",
    "CapturedStep",
    "Carried",
    "Checkpoint",
    "DeviceSplit",
    "Fit",
    "Losses",
    "Stop",
    "TrainingStep",
    "capture",
    "evaluate",
    "evaluation_order",
    "fit",
    "interrupted",
    "limit_norms",
    "own_copy",
    "predict_split",
    "training_order",
]

Indices = npt.NDArray[np.int64]
BUCKET = 50  # batches that are sorted by length together: enough to be alike, few enough to stay random


class DeviceSplit:
    """A split whose arrays lie on ``device``; ``split[indices]`` gathers a batch there."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self.device = split, device
        self._gather = split.gather
        self._arrays = {name: _to_tensor(array).to(device) for name, array in split.arrays().items()}
        self._longest = {"steps": split.lengths, "target_steps": split.target_steps}

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, indices: Indices) -> Batch:
        """The batch of ``indices`` (B,), a numpy array; token inputs and class targets come as int64."""
        # the longest is known on the host: no synchronisation to ask the device
        longest = {name: int(steps[indices].max()) for name, steps in self._longest.items() if steps is not None}
        return self.at(torch.from_numpy(indices).to(self.device, non_blocking=True), longest)

    def at(self, indices: Tensor, longest: Mapping[str, int] = MappingProxyType({})) -> Batch:
        """The batch of ``indices`` (B,) that lie on the device, cut to the ``longest`` steps where lengths vary."""
        arrays = {**self._arrays}
        for name in longest.keys() & arrays.keys():
            arrays[name] = arrays[name][: longest[name]]
        batch = self._gather(arrays, indices)
        return batch._replace(inputs=_wide(batch.inputs[:, : longest.get("steps")]), targets=_wide(batch.targets))


def _to_tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
    """A tensor over the same memory: prepared data is mapped from the cache, and a copy would be a second one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # batches are only gathered
        return torch.from_numpy(np.asarray(array))


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Small integers are stored; losses and embeddings want int64."""
    return x if x.is_floating_point() else x.long()


def training_order(split: Split, batch_size: int, generator: np.random.Generator) -> Iterator[Indices]:
    """Endless batches of ``batch_size`` indices: each example once an epoch, in a new random order every time.

    Of a text that is read in order they are the places of windows, one for each row's stretch of it.
    """
    n = len(split)
    batch_size = min(batch_size, n)
    if isinstance(split, InOrder):
        yield from split.passes(batch_size, generator)
    rest = np.empty(0, dtype=np.int64)
    while True:
        order = np.concatenate([rest, generator.permutation(n)])
        whole = len(order) // batch_size * batch_size
        order, rest = order[:whole], order[whole:]  # what is left over opens the next epoch
        if split.sizes is not None:
            order = _bucketed(order, split.sizes, batch_size, generator)
        yield from order.reshape(-1, batch_size)


def _bucketed(
    order: Indices, lengths: npt.NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> Indices:
    pool = batch_size * BUCKET
    pools = [order[at : at + pool] for at in range(0, len(order), pool)]
    batches = [part[np.argsort(lengths[part], kind="stable")].reshape(-1, batch_size) for part in pools]
    together = np.concatenate(batches)
    bucketed: Indices = together[generator.permutation(len(together))].ravel()
    return bucketed


def evaluation_order(split: Split, batch_size: int) -> Iterator[Indices]:
    """Every example exactly once, the last batch smaller; by length where lengths vary."""
    order = np.arange(len(split)) if split.lengths is None else np.argsort(split.lengths, kind="stable")
    for at in range(0, len(order), batch_size):
        yield order[at : at + batch_size]


class AdamW:
    """Betas (0.9, 0.999), epsilon 1e-8; the learning rate is given at every step.

    Equal to ``torch.optim.AdamW(fused=True)`` to the last bit. Parameters without a gradient are left alone. Where the
    weight decay is not ``decoupled`` it is added to the gradient, and this is Adam (Kingma and Ba 2015).
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float, *, decoupled: bool = True) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.update: Callable[..., None] = adamw if decoupled else adam
        self.fused = all(p.device.type in ("cpu", "cuda") for p in self.parameters)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        # torch wants the count of steps beside the parameters where the update is fused, on the host elsewhere
        self.steps = [torch.zeros((), device=p.device if self.fused else "cpu") for p in self.parameters]

    def state(self) -> dict[str, list[Tensor]]:
        """What it remembers, a tensor for each parameter."""
        return {"mean": self.means, "square": self.squares, "count": self.steps}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update every parameter by its gradient; a rate that is a tensor lies where they do."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        self.update(
            [self.parameters[i] for i in used],
            [grad for p in self.parameters if (grad := p.grad) is not None],
            [self.means[i] for i in used],
            [self.squares[i] for i in used],
            [],
            [self.steps[i] for i in used],
            foreach=False,
            fused=self.fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )


CHECKPOINT = "checkpoint.safetensors"
# of the file; 2: also the losses that are summed up since the last check; 3: the generator of masks; 4: where the
# learning rate stands on a plateau
FORMAT = 4


class Checkpoint:
    """The checkpoint file of the cell ``key`` on ``device``; only one written by the same torch there is taken up.

    ``attempt`` tells a run that was forced from others of the same cell, whose checkpoints it does not take up.
    """

    def __init__(self, path: Path, key: str, device: torch.device, attempt: str = "") -> None:
        self.path, self.device = path, device
        mark = [FORMAT, key, seqbench_version(), torch.__version__, device_name(device)]
        self.mark = json.dumps([*mark, attempt] if attempt else mark)

    def save(self, tensors: dict[str, Tensor], counts: dict[str, Any]) -> None:
        """Replace the file; ``counts`` is whatever JSON can hold."""
        kept = {name: own_copy(tensor) for name, tensor in tensors.items()}
        generators = {"generator.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            generators["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        kept |= generators
        about = {"mark": self.mark, "counts": json.dumps(counts)}
        about["sha256"] = _digest(kept, about["counts"])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = to_safetensors(kept, about)
        replace_file(self.path, lambda file: file.write(data))

    def is_own(self) -> bool:
        """Whether the file is there and was written by such a run."""
        try:
            with safe_open(self.path, "pt") as file:
                return (file.metadata() or {}).get("mark") == self.mark
        except (OSError, SafetensorError):
            return False

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved last, and torch's generators set as they were; None if there is nothing that can be used."""
        try:
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError):
            return None
        if about.get("mark") != self.mark or about.get("sha256") != _digest(tensors, about.get("counts", "")):
            return None
        torch.set_rng_state(tensors.pop("generator.cpu"))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors.pop("generator.cuda"), self.device)
        # copies: what safetensors gives is mapped from the file, which goes away
        copies = {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}
        return copies, json.loads(about["counts"])

    def remove(self) -> None:
        """Once the record stands, or when training is to start anew."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def own_copy(tensor: Tensor) -> Tensor:
    """``tensor`` on the CPU, in memory of its own: safetensors refuses what weights that are tied share."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _digest(tensors: dict[str, Tensor], counts: str) -> str:
    """SHA-256 over all that is kept: safetensors notices a file that is cut off, not one with a wrong bit."""
    digest = hashlib.sha256(counts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


EVALUATION_BATCH = 256  # sequences; large enough to be fast, small enough for any memory
EVALUATION_STEPS = 2**19  # in a batch, so that very long sequences fit too
EVALUATION_OUTPUTS = 2**26  # numbers that come out of a batch, so that large vocabularies do
REPORTS = 200  # progress reports in a run
CHECKPOINT_SHARE = 0.01  # of the time of a run, at most, in which checkpoints are written
FIRST_WRITE = 0.01, 5e7  # what one takes before the first was timed: seconds, and bytes a second, of a slow disk

Report = Callable[[int, float], None]
Stop = Callable[[Sequence[dict[str, float]]], str | None]


@dataclass
class Fit:
    """What training leaves: the curve and its cost in seconds and counts. The model holds the best state."""

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    eval_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    peak_memory: int = 0  # bytes, of training alone
    curve: list[dict[str, float]] = field(default_factory=list)
    resumed: bool = False  # from a checkpoint
    saved: int = 0  # step of the last checkpoint
    graph: bool = False  # whether the steps were replays of a CUDA graph
    stopped: str = ""  # why it ended before its last step, where `fit` was told to stop it

    def count(self, step: int, split: Split, indices: npt.NDArray[np.int64]) -> None:
        """Add one step over the examples ``indices``; only real steps of a sequence count as tokens."""
        lengths = split.lengths
        self.steps, self.samples = step, self.samples + len(indices)
        self.tokens += len(indices) * split.sequence_length if lengths is None else int(lengths[indices].sum())


def fit(
    model: SequenceModel,
    spec: TaskSpec,
    data: TaskData,
    config: RunConfig,
    budget: Budget,
    report: Report = lambda step, loss: None,
    checkpoint: Checkpoint | None = None,
    begin: Callable[[int], None] = lambda step: None,
    say: Callable[[str], None] = lambda line: None,
    *,
    graph: bool = True,
    stop: Stop | None = None,
) -> Fit:
    """Train ``model`` in place for ``budget`` and leave it in the state that did best on the validation split.

    With a ``checkpoint`` training goes on from there if it can, and leaves one now and then when validation was read.
    ``begin`` hears the step that it goes on from, or 0; ``say`` hears why no CUDA graph is used where one could be.
    Without ``graph`` none is tried. ``stop`` sees the curve whenever validation was read, and says why training should
    end there, or None.

    Raises:
        Diverged: a loss or score that is not finite.
        Interrupted: Ctrl-C; the step was finished and kept in ``checkpoint``. A second one does not wait for that.
    """
    device = next(model.parameters()).device
    train = DeviceSplit(data.train, device)
    batches = training_order(data.train, budget.batch_size, np.random.default_rng([config.seed, 0]))
    trained = (p for p in model.parameters() if p.requires_grad)
    optimizer = AdamW(trained, config.weight_decay or 0.0, decoupled=config.optimizer == "adamw")
    checks, every = _check_steps(budget), max(1, budget.steps // REPORTS)
    done, best = Fit(), _Best(model, spec, data.val, config)
    losses = Losses(device)
    own = TrainingStep(model, train, optimizer, losses, config, _carried(model, data.train, budget.batch_size))
    keeper = _Keeper(checkpoint, own, best, done)
    keeper.resume(batches)
    begin(done.steps)
    model.train()
    clock = _Clock(device)
    take = _step(own, budget, say, graph=graph)
    done.graph = isinstance(take, CapturedStep)
    try:
        with CtrlC() as ctrl_c:
            for step in range(done.steps + 1, budget.steps + 1):
                if budget.patience is not None and best.stale >= budget.patience:
                    break
                indices = next(batches)
                take(indices, learning_rate(step, budget.steps, config, best.drops))
                done.count(step, data.train, indices)
                check, reported = step in checks, step in checks or step % every == 0
                if not reported and not ctrl_c.pressed:
                    continue
                with clock.stopped(done, checking=check):  # neither reporting nor evaluation counts as training
                    if reported:
                        report(step, losses.mean(step))
                    if check:
                        best.check(step, losses.mean(step), done)
                        losses.clear()
                if check and stop is not None and (why := stop(done.curve)):
                    done.stopped = why
                    break
                if ctrl_c.pressed or (check and keeper.can_afford()):
                    keeper.save(clock)
                if ctrl_c.pressed:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise interrupted(done, budget.steps) from None
    model.load_state_dict(best.state)
    return done


def interrupted(done: Fit, steps: int) -> Interrupted:
    """Ctrl-C in a run of ``steps`` steps, in a sentence that says what the same command will do."""
    where = "from there" if done.saved == done.steps else f"from step {done.saved}"
    further = f"goes on {where}" if done.saved else "starts again"
    return Interrupted(
        f"interrupted at step {done.steps} of {steps}; records that stand are kept. The same command {further}."
    )


class Carried:
    """The states of all layers of ``model`` where each of ``rows`` texts was left, and the places where that was.

    They are changed in place, so that a step that reads and writes them can be captured.

    Raises:
        TypeError: a state has a tensor without a row for each text.
    """

    def __init__(self, model: SequenceModel, rows: int) -> None:
        self.model, self.rows = model, rows
        with torch.no_grad():
            self.state = _each(lambda part: part.detach().clone(), model.initial_state(rows))
        self.ends = torch.full((rows,), -1, dtype=torch.int64, device=next(model.parameters()).device)
        if any(part.dim() == 0 or len(part) != rows for part in self.tensors()):
            raise TypeError("a state that is carried must have a row for each sequence in each of its tensors")

    def tensors(self) -> list[Tensor]:
        """All that it holds."""
        found: list[Tensor] = [self.ends]
        _each(found.append, self.state)
        return found

    def at(self, places: Tensor) -> Any:
        """The states before texts that begin at ``places`` (B,): the first one where a row does not go on."""
        goes_on = places == self.ends

        def chosen(kept: Tensor, first: Tensor) -> Tensor:
            return torch.where(goes_on.view(-1, *[1] * (kept.dim() - 1)), kept, first.to(kept.dtype))

        return _each(chosen, self.state, self.model.initial_state(self.rows))

    @torch.no_grad()
    def leave(self, state: Any, ends: Tensor) -> None:
        """Keep the ``state`` that was reached at the places ``ends`` (B,); no gradient goes back through it."""
        _each(lambda kept, new: kept.copy_(new), self.state, state)
        self.ends.copy_(ends)


def _each(function: Callable[..., Any], *states: Any) -> Any:
    """``function`` of the tensors that stand at the same place in each of ``states``, in a state of the same form."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    parts = [_each(function, *together) for together in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)


def _carried(model: SequenceModel, split: Split, batch_size: int) -> Carried | None:
    """What is carried over the batches of ``split``; None where these stand by themselves."""
    return Carried(model, batch_size) if isinstance(split, InOrder) else None


class TrainingStep:
    """One training step of ``model``, whole: ``step(indices, rate)`` trains on the examples ``indices``, a numpy array.

    ``losses`` take up the loss, and what is ``carried`` the state. All that it changes is changed in place, so that
    what it does can be captured.
    """

    def __init__(
        self,
        model: SequenceModel,
        train: DeviceSplit,
        optimizer: AdamW,
        losses: Losses,
        config: RunConfig,
        carried: Carried | None = None,
    ) -> None:
        self.model, self.train, self.optimizer, self.losses, self.config = model, train, optimizer, losses, config
        self.carried = carried
        self.limited = model.incoming() if config.max_norm else []

    def __call__(self, indices: Indices, rate: float) -> None:
        """Train on ``indices`` (B,) at the learning rate ``rate``."""
        device = self.train.device
        # a graph reads the rate in single precision, so all steps on such a device do
        self.take(self.train[indices], torch.full((), rate, device=device) if device.type == "cuda" else rate)
        self.losses.count += 1

    def take(self, batch: Batch, rate: float | Tensor) -> None:
        """Update the model by ``batch`` and add its loss to the sum; nothing waits for the device."""
        state: Any = None
        with autocast(self.train.device, self.config):
            if self.carried is None:
                output = self.model.teach(batch)
            else:
                output, state = self.model.forward_from(batch.inputs, self.carried.at(batch.places))
            loss = self.model.head.loss(output, batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self.carried is not None:
            self.carried.leave(state, batch.places + batch.inputs.shape[1])
        torch.nn.utils.clip_grad_norm_(self.optimizer.parameters, self.config.clip)
        self.optimizer.step(rate)
        limit_norms(self.limited, self.config.max_norm or math.inf)
        self.losses.sum += loss.detach()

    def changed(self) -> list[Tensor]:
        """All tensors that a step changes, but for the gradients."""
        moments = [tensor for rows in self.optimizer.state().values() for tensor in rows]
        carried = [] if self.carried is None else self.carried.tensors()
        return [*self.model.parameters(), *self.model.buffers(), *moments, self.losses.sum, *carried]

    def direction(self) -> Tensor:
        """The optimiser's running means of the gradients, one vector on the CPU."""
        return torch.cat([own_copy(mean).float().flatten() for mean in self.optimizer.means])


@torch.no_grad()
def limit_norms(weights: Iterable[Tensor], most: float) -> None:
    """Scale each row of ``weights`` down to the norm ``most``, in place; rows of no more are left as they are.

    The constraint of Srebro and Shraibman (2005), as Srivastava et al. (2014, section 5.1) use it beside dropout.
    """
    for weight in weights:
        norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        weight.mul_((most / norms).clamp(max=1.0).view(-1, *[1] * (weight.dim() - 1)))


class CapturedStep:
    """``step``, with the same call, as a ``replay`` of what it did once: only indices and rate are copied in.

    Both lie in one tensor on the device, so that one copy brings them.
    """

    def __init__(self, step: TrainingStep, batch_size: int) -> None:
        self.step = step
        self.words = torch.zeros(batch_size + 1, dtype=torch.int64, device=step.train.device)
        self.indices, self.rate = self.words[:-1], self.words[-1:].view(torch.float32)[0]
        self.replay: Callable[[], object] = self.run

    def __call__(self, indices: Indices, rate: float) -> None:
        """Train on ``indices``, as many as ever, at the learning rate ``rate``."""
        self.load(indices, rate)
        self.replay()
        self.step.losses.count += 1

    def load(self, indices: Indices, rate: float) -> None:
        """Copy in what the next step is to read, without waiting for the device."""
        words = np.zeros(len(self.words), dtype=np.int64)
        words[:-1], words[-1:].view(np.float32)[0] = indices, rate
        host = torch.from_numpy(words)
        if self.words.is_cuda:  # memory of its own every time: torch hands it out again only once it was copied
            host = host.pin_memory()
        self.words.copy_(host, non_blocking=True)

    def run(self) -> None:
        """The step on what was copied in."""
        self.step.take(self.step.train.at(self.indices), self.rate)


class _State:
    """What a step changes, as it is now; kept on the CPU, so that the peak of the device's memory is training's own."""

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.copies = step, [(tensor, own_copy(tensor)) for tensor in step.changed()]
        self.device = step.train.device
        self.host = torch.get_rng_state()
        self.random = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def is_whole(self) -> bool:
        """Whether a step still changes these tensors and no others."""
        now = self.step.changed()
        return len(now) == len(self.copies) and all(a is b for a, (b, _) in zip(now, self.copies, strict=True))

    @torch.no_grad()
    def restore(self) -> None:
        """Set everything back, in place; what a layer has made since is the layer's."""
        for tensor, copy in self.copies:
            tensor.copy_(copy)
        self.step.optimizer.zero_grad()
        torch.set_rng_state(self.host)
        if self.random is not None:
            torch.cuda.set_rng_state(self.random, self.device)


GRAPH_STEPS = 100  # that a run must have: fewer do not pay for capturing one
WARM_UP = 3  # steps before a capture, as torch's documentation asks
SAME = 0.01  # relative distance between what a step and its replay change that rounding may explain

_ABANDONED: list[torch.cuda.CUDAGraph] = []  # graphs whose capture failed

Recorder = Callable[["CapturedStep"], Callable[[], object]]


def _step(
    step: TrainingStep, budget: Budget, say: Callable[[str], None], *, graph: bool
) -> TrainingStep | CapturedStep:
    """``step`` as a graph where the device has them, the batches' shape never changes and it pays."""
    on_cuda, same_shape = step.train.device.type == "cuda", step.train.split.lengths is None
    if graph and on_cuda and same_shape and budget.steps >= GRAPH_STEPS:
        return capture(step, min(budget.batch_size, len(step.train)), say)
    return step


def _record_graph(captured: CapturedStep) -> Callable[[], object]:
    """What replays ``captured.run`` as a CUDA graph.

    A layer that waits for the device is found in the warm-up: found in the capture, it would leave torch in disorder.
    """
    device, usual = captured.words.device, torch.cuda.current_stream()
    for module in captured.step.model.modules():
        if isinstance(module, torch.nn.RNNBase):
            module.flatten_parameters()  # moves the weights if they do not lie together yet: not in a graph
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP - 1):
            captured.run()
        with _no_waiting():
            captured.run()
    usual.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            captured.run()
    except Exception:
        # what torch does not clean up: its allocators go on asking the graph, the stream stays, and the generator
        # believes for ever that it is captured
        _ABANDONED.append(graph)
        torch.cuda.set_stream(usual)
        generator = torch.cuda.default_generators[device.index]
        generator.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
        raise
    return graph.replay


@contextmanager
def _no_waiting() -> Iterator[None]:
    """What waits for the CUDA device raises an error inside."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode")  # is a prototype, it says
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def capture(
    step: TrainingStep, batch_size: int, say: Callable[[str], None], record: Recorder = _record_graph
) -> TrainingStep | CapturedStep:
    """``step`` as one that is replayed, or ``step`` itself where that fails; which, and why, ``say`` hears then.

    All that steps change is afterwards as it was. The replay is compared with the same step taken eagerly, so that a
    layer is noticed whose Python draws random numbers or takes turns: a replay would repeat the first of them for ever.
    """
    captured, before, start = CapturedStep(step, batch_size), _State(step), step.direction()
    captured.load(np.arange(batch_size), step.config.learning_rate or 0.0)
    try:
        captured.run()
        eager = step.direction()
        before.restore()
        if not before.is_whole():
            raise RuntimeError("a layer has made buffers in its first step")
        replay = record(captured)
        before.restore()
        replay()
        same = (step.direction() - eager).norm() <= SAME * (eager - start).norm()
        problem = "" if same else "replayed, a step has other gradients"
    except Exception as error:  # a user's layer may do anything; taken eagerly, it says so itself
        problem = (str(error) or type(error).__name__).strip().splitlines()[0]
    before.restore()
    if problem:
        say(f"steps are launched kernel by kernel, not as a CUDA graph: {problem}")
        return step
    captured.replay = replay
    return captured


class Losses:
    """The losses since the last check, summed up on the device."""

    def __init__(self, device: torch.device) -> None:
        self.sum, self.count = torch.zeros((), device=device), 0

    def clear(self) -> None:
        """Begin anew, in the same memory."""
        self.sum.zero_()
        self.count = 0

    def mean(self, step: int) -> float:
        """Waits for the device."""
        mean = self.sum.item() / self.count
        if not math.isfinite(mean):
            raise Diverged(f"the training loss is {mean} at step {step}")
        return mean


MASKS = "generator.dropout"


class _Keeper:
    """Keeps all that decides how training goes on after a step, if there is a ``checkpoint`` to keep it in."""

    def __init__(self, checkpoint: Checkpoint | None, step: TrainingStep, best: _Best, done: Fit) -> None:
        self.checkpoint, self.model, self.optimizer = checkpoint, step.model, step.optimizer
        self.best, self.losses, self.done = best, step.losses, done
        self.carried = [] if step.carried is None else step.carried.tensors()
        self.last: float | None = None  # seconds that the last write took

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.state.items()}
        for part, rows in self.optimizer.state().items():
            tensors |= {f"{part}.{i}": tensor for i, tensor in enumerate(rows)}
        tensors |= {f"carried.{i}": tensor for i, tensor in enumerate(self.carried)}
        masks = self.model.dropout.state()
        return {**tensors, "loss.sum": self.losses.sum, **({} if masks is None else {MASKS: masks})}

    def can_afford(self) -> bool:
        """Whether all writing, with one more that takes as long as the last, stays within its share of the time."""
        seconds = self.last
        if seconds is None:
            latency, rate = FIRST_WRITE
            seconds = latency + sum(tensor.nbytes for tensor in self._tensors().values()) / rate
        spent = self.done.checkpoint_seconds + seconds
        return spent <= CHECKPOINT_SHARE * (self.done.train_seconds + self.done.eval_seconds)

    def save(self, clock: _Clock) -> None:
        """Replace the checkpoint; the time it takes is not training's."""
        if self.checkpoint is None:
            return
        before, self.done.saved = self.done.saved, self.done.steps
        counts = {
            "fit": dataclasses.asdict(self.done),
            "best": [self.best.value, self.best.step, self.best.stale],
            "plateau": [self.best.idle, self.best.drops],
            "losses": self.losses.count,
        }
        try:
            self.checkpoint.save(self._tensors(), counts)
        except BaseException:
            self.done.saved = before
            raise
        self.last, _ = clock.lap()
        self.done.checkpoint_seconds += self.last

    def resume(self, batches: Iterator[npt.NDArray[np.int64]]) -> None:
        """Go on from the checkpoint if that can be read: the reverse of `save`, in place."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return
        tensors, counts = saved

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(name): tensor for key, tensor in tensors.items() if key.startswith(name)}

        self.model.load_state_dict(part("model."))
        for name, rows in self.optimizer.state().items():
            for i, tensor in enumerate(rows):
                tensor.copy_(tensors[f"{name}.{i}"])
        self.best.state = part("best.")
        self.best.value, self.best.step, self.best.stale = counts["best"]
        self.best.idle, self.best.drops = counts["plateau"]
        self.losses.sum.copy_(tensors["loss.sum"])
        self.losses.count = counts["losses"]
        for i, tensor in enumerate(self.carried):
            tensor.copy_(tensors[f"carried.{i}"])
        if MASKS in tensors:
            self.model.dropout.restore(tensors[MASKS])
        for name, value in counts["fit"].items():
            setattr(self.done, name, value)
        self.done.resumed = True
        for _ in range(self.done.steps):  # batches that were trained on
            next(batches)


def _check_steps(budget: Budget) -> set[int]:
    """The steps after which the validation split is read; the last one is among them."""
    return {budget.steps * (i + 1) // budget.evaluations for i in range(budget.evaluations)}


PLATEAU = 5  # evaluations without a better one after which the learning rate is divided, where none is given


class _Best:
    """The state of ``model`` with the best primary metric on the validation split so far.

    ``stale`` evaluations have passed since then, and ``idle`` since then or since the learning rate was last divided,
    which ``drops`` times it was: where the schedule is that of a plateau, after ``config.plateau_patience`` in a row.
    """

    def __init__(self, model: SequenceModel, spec: TaskSpec, split: Split, config: RunConfig) -> None:
        self.model, self.spec, self.split, self.config = model, spec, split, config
        self.value: float | None = None
        self.step = self.stale = self.idle = self.drops = 0
        self.wait = config.plateau_patience or PLATEAU if config.schedule == "plateau" else None
        self.state: dict[str, Tensor] = {}

    def check(self, step: int, loss: float, done: Fit) -> None:
        """Read the validation split, add a point to the curve of ``done`` and keep the state if it is better.

        ``loss`` is the mean over the training since the last check; ``seconds`` of a point are those of training.
        """
        score = evaluate(self.model, self.spec, self.split, self.config)
        figures = {f"val_{name}": value for name, value in score.items()}
        if self.wait is not None:
            figures["drops"] = float(self.drops)
        done.curve.append({"step": step, "seconds": done.train_seconds, "train_loss": loss, **figures})
        self._offer(step, score[self.spec.primary.name])

    def _offer(self, step: int, value: float) -> None:
        """Keep a copy of the state if ``value`` is better; count the evaluations since the last one that was.

        A value that can't be told from the validation split, whatever is predicted, chooses nothing: the last state is
        kept. (Predictions that are not finite were refused before.)
        """
        metric = self.spec.primary
        if math.isinf(value):
            raise Diverged(f"the validation {metric.name} is {value} at step {step}")
        if self.value is None or math.isnan(value) or metric.better(value, self.value):
            self.value, self.step, self.stale = value, step, 0
            self.state = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self.idle = 0
        else:
            self.stale, self.idle = self.stale + 1, self.idle + 1
            if self.idle == self.wait:
                self.drops, self.idle = self.drops + 1, 0


class _Clock:
    """Seconds since the start or the last lap, with the device idle at both ends, and the memory of training alone."""

    def __init__(self, device: torch.device) -> None:
        reset_peak_memory(device)
        self.device, self.since, self.cpu_since = device, time.perf_counter(), time.process_time()
        self.lap()

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap, which ends here, and how many of them this process computed for."""
        synchronize(self.device)
        now, cpu_now = time.perf_counter(), time.process_time()
        laps = now - self.since, cpu_now - self.cpu_since
        self.since, self.cpu_since = now, cpu_now
        return laps

    @contextmanager
    def stopped(self, done: Fit, *, checking: bool) -> Iterator[None]:
        """Add the lap that ends here to ``done``; time inside is not training's, and evaluation's if ``checking``."""
        seconds, cpu_seconds = self.lap()
        done.train_seconds, done.cpu_seconds = done.train_seconds + seconds, done.cpu_seconds + cpu_seconds
        done.peak_memory = max(done.peak_memory, peak_memory(self.device))
        yield
        reset_peak_memory(self.device)
        pause, _ = self.lap()
        if checking:
            done.eval_seconds += pause


def learning_rate(step: int, steps: int, config: RunConfig, drops: int = 0) -> float:
    """Linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017); `full` knows no end and stays at the peak.

    The schedule `plateau` stays at the peak, divided by 10 for each of the ``drops`` that validation has asked for.
    """
    assert config.learning_rate is not None  # the plan has put the task's in place of none
    warm = max(1, round(config.warmup * steps))
    if config.schedule == "plateau":
        return config.learning_rate * min(1.0, step / warm) / 10.0**drops
    if config.budget == "full":
        return config.learning_rate * min(1.0, step / 1000)
    if step <= warm:
        return config.learning_rate * step / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def autocast(device: torch.device, config: RunConfig) -> torch.autocast:
    """bf16 matrix products where asked for; the loss itself is always computed in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


@torch.no_grad()
def predict_split(model: SequenceModel, split: Split, config: RunConfig) -> npt.NDArray[Any]:
    """Predictions for every example of ``split``, in its order, as `Split.collect` leaves them.

    Raises:
        Diverged: one of them is not a finite number.
    """
    device = next(model.parameters()).device
    if config.carry_state:
        return _predict_in_order(model, split, config)
    resident = DeviceSplit(split, device)
    model.eval()
    order, parts = [], []
    for indices in evaluation_order(split, _evaluation_rows(model, split)):
        batch = resident[indices]
        with autocast(device, config):
            output = model.answer(batch)
        order.append(indices)
        parts.append(model.head.predict(output, batch).cpu().numpy())
    model.train()
    rows = _joined(parts)
    if not np.isfinite(rows).all():  # an argmax over NaN would still look like a prediction
        raise Diverged("the predictions are not finite")
    predictions = np.empty_like(rows)
    predictions[np.concatenate(order)] = rows
    return split.collect(predictions)


def _evaluation_rows(model: SequenceModel, split: Split) -> int:
    """Sequences of ``split`` that are read at once: few enough for the steps and the outputs of a batch."""
    shape, steps = model.shape, split.sequence_length
    outputs = math.prod(shape.outputs) * (steps if shape.every_step else 1)
    return max(1, min(EVALUATION_BATCH, EVALUATION_STEPS // steps, EVALUATION_OUTPUTS // outputs))


def _predict_in_order(model: SequenceModel, split: Split, config: RunConfig) -> npt.NDArray[Any]:
    """`predict_split` of a text that is read in a few long stretches, with the state carried through each of them."""
    assert isinstance(split, Stream)
    device, stretches = next(model.parameters()).device, split.in_stretches()
    whole = DeviceSplit(stretches, device)[np.arange(len(stretches))]
    model.eval()
    state, parts = model.initial_state(len(stretches)), []
    most = min(split.window, max(1, EVALUATION_OUTPUTS // (math.prod(model.shape.outputs) * len(stretches))))
    for first in range(0, stretches.window, most):
        steps = slice(first, first + most)
        piece = Batch(whole.inputs[:, steps], None, whole.targets[:, steps], whole.skip - first)
        with autocast(device, config):
            output, state = model.forward_from(piece.inputs, state)
        parts.append(model.head.predict(output, piece).cpu().numpy())
    model.train()
    losses = np.concatenate(parts, axis=1)
    if not np.isfinite(losses).all():
        raise Diverged("the predictions are not finite")
    return stretches.collect(losses)


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """All rows; where batches differ in their steps (B, T, ...), the shorter ones are filled up with zeros."""
    if len({part.shape[1:] for part in parts}) > 1:
        longest = max(part.shape[1] for part in parts)
        parts = [np.pad(part, [(0, 0), (0, longest - part.shape[1])] + [(0, 0)] * (part.ndim - 2)) for part in parts]
    return np.concatenate(parts)


def evaluate(model: SequenceModel, spec: TaskSpec, split: Split, config: RunConfig) -> dict[str, float]:
    """The task's metrics of ``model`` on ``split``."""
    return spec.score(predict_split(model, split, config), split.truth())
