"""digits: which digit is it? Eight rows of eight grey pixels, read from top to bottom.

input   8 steps x 8 features (grey, scaled by means and deviations of training)
target  one of the digits 0 to 9
"""

import hashlib

import numpy as np
from sklearn.datasets import load_digits

import seqbench
from seqbench.metrics import accuracy

VAL, TEST, END = 1_260, 1_530, 1_797  # where the splits begin: 70%, 15% and 15%
NEIGHBOURS = 10  # images that stand together in the file may be of one writer; VAL and TEST are multiples


def score(predictions, truth):
    """From class probabilities (N, 10): figures in natural units, from the arrays of ``truth`` alone."""
    return {"accuracy": accuracy(predictions.argmax(axis=1), truth.targets)}


@seqbench.register_task(
    "digits",
    version=1,
    kind="classify",
    description="which digit is it? Eight rows of eight grey pixels",
    citation="E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, 1998; as in scikit-learn",
    licence="CC BY 4.0",
    split="in the order of the file: the first 70% trains, the next 15% validates, the last 15% tests",
    metrics=(seqbench.Metric("accuracy", "higher", ""),),
    budgets={
        "smoke": seqbench.Budget(steps=40, batch_size=64, evaluations=1),
        "quick": seqbench.Budget(steps=1_000, batch_size=64, evaluations=5),
        "standard": seqbench.Budget(steps=5_000, batch_size=64, evaluations=25),
        "full": seqbench.Budget(steps=20_000, batch_size=64, evaluations=100, patience=10),
    },
    baselines=("majority", "window-logistic"),
    reference="majority",
    perfect=1.0,
    score=score,
)
def load(source, options):
    """Images as sequences of rows; what is fitted is fitted on training."""
    images, labels = load_digits(return_X_y=True)
    pixels = images.reshape(-1, 8, 8)
    known = pixels[:VAL]
    mean, deviation = known.mean(axis=(0, 1)), known.std(axis=(0, 1))
    scaled = ((pixels - mean) / deviation).astype(np.float32)

    def rows(first, last):
        return seqbench.Rows(scaled[first:last], labels[first:last], np.arange(first, last) // NEIGHBOURS)

    return seqbench.TaskData(
        rows(0, VAL),
        rows(VAL, TEST),
        rows(TEST, END),
        sources={"digits": hashlib.sha256(images.tobytes()).hexdigest()},
        features=tuple(f"column_{i}" for i in range(8)),
        classes=tuple("0123456789"),
        notes=("who wrote which digit is not known, so one writer may be in two splits.",),
        fitted={"mean": mean.tolist(), "deviation": deviation.tolist()},
    )
