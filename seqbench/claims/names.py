"""Who the claims are about: the only place of the engine that knows models and a task by name. No torch."""

from __future__ import annotations

__all__ = ["ATTENTION", "GRU", "LSTM", "MODELS", "RECURRENT", "RNN", "TEXT", "TEXT_TITLE", "title"]

RNN, LSTM, GRU, ATTENTION = "rnn", "lstm", "gru", "transformer"
TEXT, TEXT_TITLE = "textgen", "the King James Bible"  # the task whose text is read
RECURRENT = (RNN, LSTM, GRU)
MODELS = (*RECURRENT, ATTENTION)


def title(model: str) -> str:
    """As a text writes it."""
    return {RNN: "plain RNN", LSTM: "LSTM", GRU: "GRU", ATTENTION: "Transformer layer"}.get(model, model)
