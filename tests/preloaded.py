"""Commands in processes of their own, forked from one that has imported torch, which takes two seconds otherwise.

What is forked has its own arguments, folder, environment and streams, and ends as the command ends. Linux alone.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = ("torch", "seqbench.cli", "seqbench.cli.run", "seqbench.experiment", "seqbench.models.backbone")
FRESH = ("PYTHON", "OMP_", "SEQBENCH_FORK")  # beginnings of variables that matter before anything is imported


class Preloaded:
    """The process, seen from the tests."""

    def __init__(self):
        self.line, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=its_end.fileno(), stdout=subprocess.DEVNULL, start_new_session=True
            )

    def run(self, words, cwd, environment, timeout):
        """As `subprocess.run` with the output as text."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors, open(os.devnull, "rb") as nothing:
            message = json.dumps([words, str(cwd), environment]).encode()
            socket.send_fds(self.line, [message], [stream.fileno() for stream in (nothing, out, errors)])
            self.line.settimeout(60)
            pid = int(self.line.recv(64))
            self.line.settimeout(timeout)
            try:
                code = int(self.line.recv(64))
            except TimeoutError:
                os.killpg(pid, signal.SIGKILL)
                self.line.settimeout(60)
                self.line.recv(64)
                raise subprocess.TimeoutExpired(words, timeout) from None
            texts = []
            for stream in (out, errors):
                stream.seek(0)
                texts.append(stream.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(words, code, *texts)

    def close(self):
        self.line.close()
        self.process.wait(30)


def main():
    """In the process: fork for every message, until there is nobody at the other end."""
    line = socket.socket(fileno=os.dup(0))
    sys.path[0] = str(ROOT)  # as of run_bench.py
    import seqbench

    seqbench.__path__.append(str(ROOT))
    for name in IMPORTED:
        importlib.import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose threads"
    while True:
        message, streams, _, _ = socket.recv_fds(line, 1 << 20, 3)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            line.close()
            command(*json.loads(message), streams)
        for stream in streams:
            os.close(stream)
        line.send(str(pid).encode())
        line.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def command(words, cwd, environment, streams):
    """In what is forked: be run_bench.py."""
    os.setsid()
    for stream, place in zip(streams, range(3), strict=True):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(ROOT / "run_bench.py"), *words]
    from seqbench.__main__ import command as run

    code = 1
    try:
        code = run()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # as Python does at the end of a program
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    main()
