"""What probes share: made-up problems, nets and their training, clocks and fits, and how measurements are run."""

__all__ = ["LEARNING_RATE", "SOLVED"]

SOLVED = 0.9  # normalised score from which a problem counts as solved
LEARNING_RATE = 3e-3  # of nets that learn a made-up problem, unless another is asked for
