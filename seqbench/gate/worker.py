"""A plug-in of pytest: a process that has collected the benchmarks of one revision and forks itself for each request.

`measure` starts it with the Python and the packages of that revision, whatever version of seqbench these hold, so this
file imports nothing of seqbench. Requests come as lines of JSON through a pipe; answers go through another. What is
forked runs the benchmarks asked for, as pytest would, and pytest-benchmark writes their times. Where a fork is not
safe, as threads or a GPU are in use already, the process serves one request itself, and another is started for the
next.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

FOREIGN = "SEQBENCH_GATE_FOREIGN"  # folders whose code is not this side's
PIPES = "SEQBENCH_GATE_PIPES"  # numbers of two file descriptors, which requests come from and answers go to
SKIPPED = "skipped"  # what such a reason begins with
REASON = 300  # characters of why a benchmark failed


class Worker:
    """The plug-in: collects what goes wrong, and serves requests in place of the loop over all tests."""

    def __init__(self, requests: int, answers: int, others: tuple[str, ...], own: str) -> None:
        self._others, self._own = others, own
        self._requests = os.fdopen(requests, "r", encoding="utf-8")
        self._answers = os.fdopen(answers, "w", encoding="utf-8")
        self._errors: dict[str, str] = {}
        self._status: Path | None = None  # where a process that measures says how it went, and what it measured
        self._result: Path | None = None
        self._forked = False

    def pytest_collectreport(self, report: Any) -> None:
        """A file that can't be imported."""
        if report.failed:
            self._errors[report.nodeid] = _last_line(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A benchmark that fails or is skipped; in a process that measures, how it went."""
        if report.failed:
            self._errors.setdefault(report.nodeid, _last_line(report))
        if report.skipped:
            self._errors.setdefault(report.nodeid, f"{SKIPPED}: {_last_line(report)}")
        if foreign := self._foreign():
            self._errors.setdefault(report.nodeid, f"it imported {foreign}, which is not of this revision")
        if self._status is not None and report.when == "teardown":
            self._status.write_text(json.dumps(self._errors), encoding="utf-8")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool | None:
        """Serve requests until there are no more. None in a process that measures: there pytest's own loop goes on."""
        forks = _can_fork()
        nodes = [item.nodeid for item in session.items if "benchmark" in getattr(item, "fixturenames", ())]
        self._tell({"nodes": nodes, "errors": self._errors, "forks": forks, "foreign": self._foreign()})
        for line in self._requests:
            request = json.loads(line)
            if not forks:
                return self._begin(session, request)
            pid = os.fork()
            if pid == 0:
                os.setsid()  # so that it can be killed with all that it starts
                self._forked = True
                return self._begin(session, request)
            self._tell({"born": pid})
            _, status = os.waitpid(pid, 0)
            self._tell({"ended": os.waitstatus_to_exitcode(status)})
        self._end()
        return True

    def _begin(self, session: Any, request: dict[str, Any]) -> bool | None:
        """Keep the benchmarks that are asked for. None: pytest goes on with these."""
        wanted = set(request["nodes"])
        session.items[:] = [item for item in session.items if item.nodeid in wanted]
        self._errors = {}
        self._status, self._result = Path(request["status"]), Path(request["json"])
        return None

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_generate_machine_info(self) -> dict[str, Any]:
        """In place of pytest-benchmark's own, which takes a second to ask the processor about everything."""
        about = platform.uname()
        return {
            "device_name": f"{_processor()} ({os.cpu_count()} cores)",
            "node": about.node,
            "machine": about.machine,
            "system": about.system,
            "python_version": platform.python_version(),
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_generate_commit_info(self) -> dict[str, Any]:
        """The gate knows the commits; to ask git again takes longer than some benchmarks."""
        return {"id": None}

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Keep what was measured, without the single rounds. That is the last thing that a forked process does: what
        pytest's plug-ins do at the end of a session can take longer than the benchmark.
        """
        for one in output_json["benchmarks"]:
            one["stats"].pop("data", None)
        if self._result is not None:
            self._result.write_text(json.dumps(output_json, default=_plain), encoding="utf-8")
        if self._forked:
            self._end()

    def _foreign(self) -> str:
        """A file that was imported and is not of this side; what is installed, and the benchmarks, may lie anywhere."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str) or file.startswith(self._own) or "site-packages" in file:
                continue
            if file.startswith(self._others):
                return file
        return ""

    def _end(self) -> None:
        """Without the farewell of a session, of which there is nothing to tell."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)

    def _tell(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._answers, flush=True)


def pytest_configure(config: Any) -> None:
    """Take part if a gate has started this."""
    if pipes := os.environ.pop(PIPES, ""):
        requests, answers = map(int, pipes.split(","))
        own = str(config.rootpath) + os.sep
        others = [folder + os.sep for folder in os.environ.pop(FOREIGN, "").split(os.pathsep) if folder]
        config.pluginmanager.register(Worker(requests, answers, tuple(others), own))


def _plain(value: Any) -> float | str:
    """What JSON can hold of a number of another kind, such as a Decimal; of anything else its text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _processor() -> str:
    """What the processor calls itself: times are compared within one name only."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _can_fork() -> bool:
    """Not beside other threads, whose locks nobody would open, and not once a GPU is in use."""
    torch = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_initialized()
    return len(_threads()) == 1 and not used and os.environ.get("SEQBENCH_FORK") != "0"


def _threads() -> list[str]:
    """Names of this process's threads, but for the one of jemalloc, which sees to forks itself (pyarrow starts it).

    Empty where the system does not list them: Linux does. Elsewhere libraries of the system may not survive a fork.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return []
    names = [(task / "comm").read_text(encoding="utf-8").strip() for task in tasks.iterdir()]
    return [name for name in names if not name.startswith("jemalloc_bg")]


def _last_line(report: Any) -> str:
    """What went wrong, on one line."""
    if isinstance(report.longrepr, tuple):  # of what was skipped: file, line, reason
        return str(report.longrepr[2]).removeprefix("Skipped: ")[:REASON]
    crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None)
    lines = [line for line in str(crash or report.longrepr or "no reason given").splitlines() if line.strip()]
    text = " ".join((lines[0] if crash else lines[-1]).split()) if lines else "no reason given"
    text = text.encode("utf-8", "replace").decode("utf-8")  # without halves of letters, which nobody can write
    return text if len(text) <= REASON else text[:REASON] + " ..."
