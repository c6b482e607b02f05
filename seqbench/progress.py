"""What a user sees while a run goes on, on stderr: a live bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import Never

from tqdm import tqdm

from seqbench.plan import Listener

__all__ = ["Progress"]

PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal


class Progress:
    """Context manager whose ``listener`` a run reports to."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.live = sys.stderr.isatty()
        self.bar: tqdm[Never] | None = None
        self.steps = 0
        self.since = self.said = time.monotonic()
        self.listener = Listener(say=self._say, begin=self._begin, report=self._report)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # whoever read this may have gone; the run goes on
            print(f"{self.title}: {line}", file=sys.stderr, flush=True)

    def _begin(self, steps: int) -> None:
        self.steps, self.since = steps, time.monotonic()
        if self.live:
            self.bar = tqdm(total=steps, desc=self.title, unit="step", dynamic_ncols=True, leave=False)
        else:
            self._say(f"training for {steps} steps")

    def _report(self, step: int, loss: float) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.said >= PLAIN_EVERY or step == self.steps:
            self.said = now
            left = (now - self.since) / step * (self.steps - step)
            self._say(f"step {step} of {self.steps}, loss {loss:.4f}, {left:.0f} s left")
