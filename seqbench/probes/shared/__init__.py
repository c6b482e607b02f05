"""What probes share: made-up problems, nets and their training, clocks and fits, and how measurements are run."""

__all__ = ["SOLVED"]

SOLVED = 0.9  # normalised score from which a problem counts as solved
