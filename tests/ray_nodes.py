"""A Ray cluster of several nodes on this machine, bound to loopback, for tests: it ends with its standard input.

``python ray_nodes.py '[folders]'`` obeys lines: ``["add", {"cpus": 1, "gpus": 0, "cache": folder}]`` adds a node, and
``["kill", 1]`` kills that of this number, as a machine goes that loses its power. It answers with the cluster's address
and whether the folders are hidden from all nodes, where the system lets it: they have no disk in common with whoever
uses the cluster then.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so Ray takes 127.0.0.1 for this machine's address, on Linux, too
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
}
SYSTEM = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 8}


def hide(folders):
    """An empty folder in the place of each, for this process and those that it starts; whether that could be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x44000, None):  # namespace of mounts, private
        return False
    return not any(libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, None) for folder in folders)


def processes(cache):
    """All that run on the node with that cache: Ray's own, and those of cells."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            about = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(f"{variable.decode(errors='replace')}/".startswith(f"SEQBENCH_CACHE={cache}/") for variable in about):
            found.append(int(path.name))
    return found


def kill_all(cache):
    """At once, as a machine ends that loses its power."""
    for pid in processes(cache):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main():
    os.environ.update(LOOPBACK)
    hidden = hide(json.loads(sys.argv[1]))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster

    cluster, nodes, caches = Cluster(), [], []
    while line := sys.stdin.readline():
        what, value = json.loads(line)
        if what == "kill":
            kill_all(caches[value])
            cluster.remove_node(nodes[value], allow_graceful=False)
        else:
            about = {"num_cpus": value["cpus"], "num_gpus": value["gpus"]}
            about |= {} if nodes else {"_system_config": SYSTEM}
            about |= {"node_ip_address": "127.0.0.1", "include_dashboard": False}
            nodes.append(cluster.add_node(**about, env_vars={"SEQBENCH_CACHE": value["cache"]}))
            caches.append(value["cache"])
        print(json.dumps([cluster.address, hidden]), file=out, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
