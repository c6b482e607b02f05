"""Models, a task and budgets that the claims are about: the only place of the engine that knows them by name."""

from __future__ import annotations

__all__ = [
    "ATTENTION",
    "BOTH_WAYS",
    "COMPARED",
    "GRU",
    "LSTM",
    "RECURRENT",
    "RNN",
    "TEXT",
    "TEXT_TITLE",
    "THOROUGH",
    "model_title",
]

RNN, LSTM, GRU, ATTENTION = "rnn", "lstm", "gru", "transformer"
BOTH_WAYS = "bilstm"
RECURRENT = (RNN, LSTM, GRU)
COMPARED = (*RECURRENT, ATTENTION)
TEXT, TEXT_TITLE = "textgen", "the King James Bible"  # the task whose text is read
THOROUGH = ("full", "standard", "quick")  # budgets of the board, the best first


def model_title(model: str, article: bool = False) -> str:
    """``plain RNN``, ``LSTM``, or with an article ``an LSTM``."""
    name = {RNN: "plain RNN", LSTM: "LSTM", GRU: "GRU", ATTENTION: "Transformer layer", BOTH_WAYS: "BiLSTM"}.get(
        model, model
    )
    return f"{'an' if model == LSTM else 'a'} {name}" if article else name
