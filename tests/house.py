"""The structure of the code, read from its source: modules, what each imports, what each defines."""

import ast
from collections import defaultdict
from pathlib import Path

from conftest import ROOT


def imports(path: Path) -> set[str]:
    """Names of the modules that a file imports, however deep and for whatever reason (types included)."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def modules() -> dict[str, Path]:
    """Every module of the package, the tasks among them, by its dotted name."""
    found = {}
    for path in [*ROOT.glob("seqbench/**/*.py"), *ROOT.glob("tasks/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join(parts if parts[0] == "seqbench" else ("seqbench", *parts))] = path
    return found


def arrows() -> dict[str, set[str]]:
    """Of every module the other modules of the package that it imports."""
    known = modules()
    return {name: (imports(path) & known.keys()) - {name} for name, path in known.items()}


def importers() -> dict[str, set[str]]:
    """Of every module those that import it."""
    found = defaultdict(set)
    for name, others in arrows().items():
        for other in others:
            found[other].add(name)
    return found


def public_names(path: Path) -> set[str]:
    """Functions and classes that a module defines for others."""
    nodes = ast.parse(path.read_text()).body
    return {
        node.name
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
