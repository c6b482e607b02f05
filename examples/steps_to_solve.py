"""How many training steps a model needs until it recalls one of 8 symbols across some steps of noise.

python run_bench.py probe steps-to-solve --model rnn,lstm --budget smoke --plugin examples/steps_to_solve.py
"""

import math
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated

import seqbench

LIMIT = {"smoke": 150, "quick": 2_000, "standard": 10_000}  # steps after which training is given up
SEEDS = {"smoke": 1, "quick": 5, "standard": 5}


@dataclass(frozen=True)
class StepsOptions:
    """Each field is an option of the command line; its docstring is the help."""

    length: Annotated[int, seqbench.Range(ge=1, le=10_000)] = 32
    """Steps from the symbol to the question."""
    hidden: int = 64
    """Width of the layer."""
    learning_rate: float = 3e-3
    """Kept throughout."""

    def __post_init__(self):
        seqbench.check_options(self)


@dataclass(frozen=True)
class StepsResult:
    """Steps until the score was .9 or more for sure (None: never), and the score at each check."""

    steps: int | None
    checked_at: tuple[int, ...]
    scores: tuple[float | None, ...]


@seqbench.register_probe("steps-to-solve")
class StepsToSolve(seqbench.Probe[StepsResult]):
    """How many training steps until recall across some steps of noise is solved."""

    Options = StepsOptions
    Result = StepsResult

    def plan(self, request, options, models, device):
        """Every model with every seed."""
        decides = {**asdict(options), "limit": LIMIT[request.budget]}  # the result, but for model, seed and machine
        seeds = SEEDS[request.budget]
        return [spec for model in models for spec in self.specs(request, device, model, decides, seeds)]

    def measure(self, spec, listener):
        """Train until it is solved, or to the limit."""
        import torch  # not above: --help must not wait for it

        from seqbench.probes.shared.nets import build_net
        from seqbench.probes.shared.problems import Recall
        from seqbench.probes.shared.training import train

        asked, problem = spec.options, Recall()
        net = build_net(spec.models[0], problem.shape, asked["hidden"]).to(spec.device)
        data = torch.Generator(spec.device).manual_seed(spec.seed)
        listener.begin(asked["limit"])
        trained = train(
            net, problem, asked["length"], data,
            learning_rate=asked["learning_rate"], steps=asked["limit"], listener=listener,
        )  # fmt: skip
        return StepsResult(trained.steps if trained.solved else None, trained.checked_at, trained.checks)

    def headline(self, result):
        """For the line of progress."""
        return f"solved after {result.steps:,} steps" if result.steps else "not solved"

    def table(self, measured):
        """A row for each model."""
        rows = []
        for group in seqbench.seeds_together(measured):
            steps = [one.result.steps for one in group]
            middle = median(math.inf if count is None else count for count in steps)
            rows.append({
                "model": group[0].spec.models[0],
                "steps of each seed": " ".join("-" if count is None else f"{count:,}" for count in steps),
                "median": f"{middle:,.0f}" if math.isfinite(middle) else "not solved",
            })  # fmt: skip
        return f"{seqbench.aligned_table(rows)}\n\nSteps until recall is solved; -: not within the limit of the budget."

    def chart(self, measured):
        """All learning curves in one panel."""
        curves = [
            seqbench.Line(
                one.result.checked_at,
                [math.nan if score is None else score for score in one.result.scores],
                seqbench.look_of(one.spec.models[0]),
                label=one.spec.models[0],
                marked=True,
            )
            for one in measured
        ]
        panel = seqbench.Panel(
            "Score while training, a line for every seed",
            [*curves, seqbench.Rule(0.9, "solved"), seqbench.Rule(0.0, "guessing")],
            seqbench.Axis("training steps"),
            seqbench.Axis("normalised score", limits=(-0.1, 1.05)),
        )
        lengths = " or ".join(sorted({str(one.spec.options["length"]) for one in measured}))
        return seqbench.Chart(f"Training steps until recall across {lengths} steps is solved", [[panel]])
