"""Keras on TensorFlow or on JAX: the functional model of its guides, compiled and trained by ``model.fit``.

TensorFlow is fed by a tf.data pipeline that gathers batches of rows, JAX by a generator that does so in numpy: both go
on for ever, as arrays given to ``fit`` would not, whose epochs end where a block of steps need not. Whether XLA
compiles the step is left to Keras (``jit_compile="auto"``), as a user leaves it, and said in ``about``. The backend is
chosen by the environment variable KERAS_BACKEND before Keras is imported.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.problem import Problem
from benchmarks.peers.rows import Row
from benchmarks.peers.worker import Blocks

Array = npt.NDArray[Any]
HEADS = 4


def make(row: Row, problem: Problem, backend: str | None) -> Any:
    """The peer on ``backend``."""
    assert backend
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(problem.threads)
        tf.config.threading.set_inter_op_parallelism_threads(problem.threads)
    else:  # Keras would import it if it is installed, which takes seconds and memory that a user of JAX need not spend
        sys.modules["tensorflow"] = None
    import keras

    keras.utils.set_random_seed(0)
    return Keras(problem)


class Keras:
    """A compiled model and all examples as arrays."""

    def __init__(self, problem: Problem) -> None:
        import keras

        self.problem = problem
        self.model, self.parts = build(problem)
        self.criterion = (
            keras.losses.MeanSquaredError()
            if problem.kind == "forecast"
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        optimizer = keras.optimizers.AdamW(
            problem.learning_rate, weight_decay=problem.weight_decay, epsilon=1e-8, global_clipnorm=problem.clip
        )
        self.model.compile(optimizer, self.criterion)
        self.about = f"model.fit, XLA {'on' if self.model.jit_compile else 'off'} (Keras's own choice)"
        self.inputs, self.targets = problem.inputs, self.shaped(problem.targets)

    def shaped(self, targets: Array) -> Array:
        """(B, H, C) to forecast as the (B, H C) that a Dense gives."""
        return targets.reshape(len(targets), -1) if self.problem.kind == "forecast" else targets

    def restore(self) -> None:
        """The weights of the problem in the layout of Keras."""
        arrays = converted(self.problem)
        assert len(arrays) == len(self.parts)
        for layer, weights in zip(self.parts, arrays, strict=True):
            layer.set_weights(weights)

    def loss(self) -> float:
        """Of the first examples."""
        inputs, targets = self.problem.first_batch
        return float(self.criterion(self.shaped(targets), self.model(inputs, training=False)))

    def train(self, blocks: Blocks) -> None:
        """`fit` with an "epoch" for each block."""
        import keras

        class Pause(keras.callbacks.Callback):
            def on_train_begin(self, logs: Any = None) -> None:
                self.steps = int(self.model.optimizer.iterations)
                blocks.begin()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                float((logs or {})["loss"])  # waits until the block is computed
                going_on = blocks.end()
                self.steps += blocks.steps
                assert int(self.model.optimizer.iterations) == self.steps, "steps were left out"
                self.model.stop_training = not going_on

        self.model.fit(
            self.batches(), steps_per_epoch=blocks.steps, epochs=10**6, verbose=0, shuffle=False, callbacks=[Pause()]
        )

    def batches(self) -> Any:
        """Batches without end, each example once an epoch."""
        import keras

        count, size = len(self.inputs), self.problem.batch_size
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            x, y = tf.constant(self.inputs), tf.constant(self.targets)
            rows = tf.data.Dataset.range(count).shuffle(count).repeat().batch(size, drop_remainder=True)
            return rows.map(lambda at: (tf.gather(x, at), tf.gather(y, at))).prefetch(tf.data.AUTOTUNE)
        return self.drawn(count, size)

    def drawn(self, count: int, size: int) -> Iterator[tuple[Array, Array]]:
        """The same in numpy."""
        generator = np.random.default_rng(0)
        while True:
            order = generator.permutation(count)[: count // size * size]
            for rows in order.reshape(-1, size):
                yield self.inputs[rows], self.targets[rows]


def build(p: Problem) -> tuple[Any, list[Any]]:
    """The model, and its layers with weights in the order of `converted`."""
    from keras import Input, Model, layers, ops

    T = p.inputs.shape[1]
    inputs = Input((T,), dtype="int32") if p.tokens else Input((T, p.features))
    parts: list[Any] = []

    def add(layer: Any) -> Any:
        parts.append(layer)
        return layer

    x = inputs
    if p.embeds:
        x = add(layers.Embedding(p.tokens, p.widths[0]) if p.tokens else layers.Dense(p.widths[0]))(x)
    for i, width in enumerate(p.widths):
        last = i == len(p.widths) - 1
        whole = not (last and p.kind == "forecast") or p.model in ("bilstm", "transformer")
        x = transformer(x, width, p.causal, add) if p.model == "transformer" else add(cell(p.model, width, whole))(x)
        if last and whole and p.kind == "forecast":
            x = x[:, -1]
        x = layers.Dropout(p.dropout)(x)
    if p.kind == "classify":
        x = layers.Concatenate()([ops.sum(x, axis=1) / math.sqrt(T), x[:, -1]])
    return Model(inputs, add(layers.Dense(p.outputs))(x)), parts


def cell(model: str, width: int, whole: bool) -> Any:
    """A recurrent layer that gives all steps, or the last one."""
    from keras import layers

    if model == "bilstm":
        return layers.Bidirectional(layers.LSTM(width // 2, return_sequences=whole))
    kind = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[model]
    return kind(width, return_sequences=whole)


def transformer(x: Any, width: int, causal: bool, add: Any) -> Any:
    """Pre-norm attention with rotary positions, pre-norm feed-forward of twice the width, and a last norm."""
    from keras import layers, ops

    T, d = x.shape[1], width // HEADS
    angle = np.arange(T)[:, None] * 10_000.0 ** (-np.arange(0, d, 2) / d)
    cos, sin = (array.astype("float32")[:, None, :] for array in (np.cos(angle), np.sin(angle)))

    def norm(x: Any) -> Any:
        return add(layers.LayerNormalization(epsilon=1e-5))(x)

    def dense(size: int, x: Any, **more: Any) -> Any:
        return add(layers.Dense(size, **more))(x)

    def heads(x: Any) -> Any:
        return ops.reshape(x, (-1, T, HEADS, d))

    def rotate(x: Any) -> Any:
        a, b = ops.split(x, 2, axis=-1)
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    q, k, v = (heads(part) for part in ops.split(dense(3 * width, norm(x)), 3, axis=-1))
    mixed = ops.dot_product_attention(rotate(q), rotate(k), v, is_causal=causal)
    x = x + dense(width, ops.reshape(mixed, (-1, T, width)))
    x = x + dense(width, ops.gelu(dense(2 * width, norm(x)), approximate=False))
    return norm(x)


def converted(p: Problem) -> list[list[Array]]:
    """The weights of each layer that has some, as Keras wants them."""
    w = p.weights
    embed = [w["embed.weight"]] if p.tokens else linear(w, "embed") if p.embeds else None
    arrays = [] if embed is None else [embed]
    for i in range(len(p.widths)):
        name = f"layers.{i}"
        if p.model == "transformer":
            arrays += [norm_of(w, f"{name}.norm_attention"), linear(w, f"{name}.qkv"), linear(w, f"{name}.merge")]
            arrays += [norm_of(w, f"{name}.norm_feed"), linear(w, f"{name}.widen"), linear(w, f"{name}.narrow")]
            arrays += [norm_of(w, f"{name}.norm_out")]
        elif p.model == "bilstm":
            arrays += [recurrent(w, f"{name}.ahead", "lstm") + recurrent(w, f"{name}.back", "lstm")]
        else:
            arrays += [recurrent(w, f"{name}.kernel", p.model)]
    return [*arrays, linear(w, "head.out")]


def linear(w: dict[str, Array], name: str) -> list[Array]:
    """Of a Dense."""
    return [w[f"{name}.weight"].T, w[f"{name}.bias"]]


def norm_of(w: dict[str, Array], name: str) -> list[Array]:
    """Of a LayerNormalization."""
    return [w[f"{name}.weight"], w[f"{name}.bias"]]


def recurrent(w: dict[str, Array], name: str, model: str) -> list[Array]:
    """Of a recurrent layer: one bias for two but in a GRU, whose gates Keras has as z r h and torch as r z n."""
    W, U, b, b_state = (w[f"{name}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if model != "gru":
        return [W.T, U.T, b + b_state]
    W, U, b, b_state = (np.concatenate([z, r, n]) for r, z, n in (np.split(part, 3) for part in (W, U, b, b_state)))
    return [W.T, U.T, np.stack([b, b_state])]
