"""Small files of a user's own, one a task, made anew: what `--data` is tested with."""

import csv
import io

import numpy as np

WORDS = [
    "the",
    "film",
    "was",
    "with",
    "and",
    "a",
    "plot",
    "of",
    "actors",
    "in",
    "scene",
    "music",
    "ending",
    "this",
    "that",
]
GOOD, BAD = ["great", "love", "happy", "nice", "excellent"], ["awful", "hate", "sad", "poor", "terrible"]


def reviews(n=120, header=("text", "label")):
    """CSV of texts, each with one word that gives its label away."""
    rng, text = np.random.default_rng(1), io.StringIO()
    rows = csv.writer(text)
    rows.writerow(header)
    for i in range(n):
        words = [*rng.choice(WORDS, rng.integers(5, 20)), str(rng.choice(GOOD if i % 2 else BAD))]
        rows.writerow([" ".join(rng.permutation(words)), "pos" if i % 2 else "neg"])
    return text.getvalue()


def sequences(n=120):
    """FASTA, half of it with a TATA box."""
    rng, lines = np.random.default_rng(2), []
    for i in range(n):
        letters = "".join(rng.choice(list("ACGT"), rng.integers(60, 90)))
        letters = letters[:30] + "TATAAA" + letters[36:] if i % 2 else letters
        lines += [f">s{i} label={'tata' if i % 2 else 'none'}", letters]
    return "\n".join(lines) + "\n"


def series(n=900):
    """CSV of hours with a daily wave in two columns."""
    rng = np.random.default_rng(3)
    wave = 20 + 10 * np.sin(np.arange(n) * 2 * np.pi / 24) + rng.normal(size=n)
    times = np.datetime64("2020-01-01T00", "h") + np.arange(n)
    rows = (f"{time},{value:.2f},{50 + rng.normal():.1f}" for time, value in zip(times, wave, strict=True))
    return "\n".join(["time,temp,hum", *rows]) + "\n"


def prices(n=500):
    """CSV of daily prices and volumes, a random walk."""
    rng = np.random.default_rng(4)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    days = np.datetime64("2015-01-01") + np.arange(n)
    rows = (
        f"{day},{p * 0.99:.3f},{p * 1.01:.3f},{p * 0.98:.3f},{p:.3f},{rng.integers(1000, 9000)}"
        for day, p in zip(days, close, strict=True)
    )
    return "\n".join(["date,open,high,low,close,volume", *rows]) + "\n"


def runs(n=18, samples=40):
    """Long CSV of runs in three states that differ in the means of two measurements."""
    rng, lines = np.random.default_rng(5), ["run,label,a,b"]
    for run in range(n):
        state = run % 3
        for a, b in rng.normal(size=(samples, 2)) + np.array([state, -state]):
            lines.append(f"r{run},{('ok', 'worn', 'stuck')[state]},{a:.3f},{b:.3f}")
    return "\n".join(lines) + "\n"


def book(n=1500):
    """Words in a row."""
    return " ".join(np.random.default_rng(6).choice([*WORDS, *GOOD], n))


def chains_file(n=40):
    """FASTA of made-up proteins, each followed by its labels, which the letters tell."""
    rng, lines = np.random.default_rng(7), []
    for i in range(n):
        labels = np.repeat(rng.choice(list("HEC"), 8), rng.integers(3, 9, 8))
        usual = {"H": "AAAAELKM", "E": "VVIYFTWQ", "C": "GGPNDSRC"}
        letters = "".join(rng.choice(list(usual[label])) for label in labels)
        lines += [f">p{i}", letters, f">p{i}", "".join(labels)]
    return "\n".join(lines) + "\n"


# task -> (file name, content, options that make it small and say what it is)
OWN = {
    "sentiment": ("reviews.csv", reviews(), ()),
    "dna": ("sites.fasta", sequences(), ()),
    "weather": ("station.csv", series(), ("target=temp", "sequence_length=24", "horizon=6")),
    "stock": ("prices.csv", prices(), ("sequence_length=20",)),
    "fault": ("machine.csv", runs(), ("sequence_length=10",)),
    "protein": ("chains.fasta", chains_file(), ()),
    "textgen": ("book.txt", book(), ("sequence_length=32", "val=0.1", "test=0.1")),
}
