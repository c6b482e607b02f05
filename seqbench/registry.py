"""Names to things: the one way in for tasks, models, baselines, heads and probes, built-in or a user's own.

A module registers what it defines by decorator. Built-in modules are found by listing their package, installed
plug-ins by entry points (groups such as ``seqbench.tasks``), a user's file by ``--plugin`` (`load_plugin`): all three
end in the same `Registry.add`. Each registry lives beside what it holds; this module knows none of them.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from seqbench.errors import UserError, nearest

__all__ = ["Entry", "Registry", "check_name", "load_plugin", "loaded_plugins"]

T = TypeVar("T")

# Names become folders and file names, so they are held to what every file system takes.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


class _Loading(NamedTuple):
    """What is being loaded, while it is no built-in module, and what it has registered so far."""

    origin: str = ""
    code: str | None = None
    added: list[tuple[Registry[Any], str]] | None = None


NOTHING = _Loading()
_loading: contextvars.ContextVar[_Loading] = contextvars.ContextVar("seqbench_loading", default=NOTHING)
_loaded: dict[Path, str] = {}  # files that `load_plugin` has run, with the SHA-256 of what they held then


def check_name(name: str, noun: str) -> str:
    """Return ``name`` if it can safely be part of a path, else raise `UserError`."""
    if not NAME.match(name):
        raise UserError(f"{noun} name {name!r} must be lower-case letters, digits, - and _ (64 at most).")
    return name


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing and where it came from (a module, a distribution or a file).

    ``code`` is the SHA-256 of a user's own file, or of a notebook's cell: these are edited without a new version, and a
    result of the old code must not be taken for one of the new. ``here_only`` is what a notebook or a script registered
    itself: another process does not know it.
    """

    name: str
    value: T
    aliases: tuple[str, ...]
    origin: str
    code: str | None = None
    here_only: bool = False


class Registry(Generic[T]):
    """Names to values; fills itself from ``packages`` and entry points at the first look-up."""

    def __init__(self, noun: str, *packages: str, group: str | None = None) -> None:
        self.noun = noun
        self._packages = packages
        self._group = group
        self._entries: dict[str, Entry[T]] = {}
        self._aliases: dict[str, str] = {}
        self._discovered = False

    def add(self, name: str, value: T, *, aliases: tuple[str, ...] = (), module: str = "") -> T:
        """Register ``value``, defined in ``module``; raises `UserError` if the name is taken or unfit for a path."""
        loading = _loading.get()
        if loading.origin:  # built-in names first, so that a clash is the plug-in's
            self.discover()
        origin = loading.origin or module or str(getattr(value, "__module__", "?"))
        for taken in (name, *aliases):
            check_name(taken, self.noun)
            if taken in self._aliases:
                holder = self._entries[self._aliases[taken]]
                raise UserError(
                    f"{self.noun} {taken!r} ({origin}) is already registered by {holder.origin}: choose another name."
                )
        here_only = not loading.origin and not origin.startswith("seqbench.")
        code = _code_around(origin) if here_only else loading.code
        self._entries[name] = Entry(name, value, aliases, origin, code, here_only)
        self._aliases.update(dict.fromkeys((name, *aliases), name))
        if loading.added is not None:
            loading.added.append((self, name))
        return value

    def remove(self, name: str) -> None:
        """Take back what was registered as ``name``."""
        for taken in (name, *self._entries.pop(name).aliases):
            del self._aliases[taken]

    def register(self, name: str, *, aliases: tuple[str, ...] = ()) -> Callable[[T], T]:
        """The decorator form of `add`."""
        return lambda value: self.add(name, value, aliases=aliases)

    def entry(self, name: str) -> Entry[T]:
        """The entry called ``name`` (or aliased so); an unknown name is answered with the nearest ones."""
        if name not in self._aliases:
            self._import(name)
        if name not in self._aliases:
            self.discover()
        if name not in self._aliases:
            raise UserError(nearest(name, self._entries, self.noun))
        return self._entries[self._aliases[name]]

    def _import(self, name: str) -> None:
        """Import the built-in module called ``name``, which most often registers it, and no other."""
        with _loading_from(NOTHING):
            for package in self._packages if NAME.match(name) else ():
                module = f"{package}.{name.replace('-', '_')}"
                if not self._discovered and importlib.util.find_spec(module) is not None:
                    importlib.import_module(module)

    def get(self, name: str) -> T:
        """The value called ``name``; see `entry`."""
        return self.entry(name).value

    def chosen(self, text: str) -> tuple[str, ...]:
        """``"all"`` or ``"dna,stock"`` to registered names, each once; an unknown one is answered with the nearest."""
        if text == "all":
            return tuple(self.names())
        return tuple(dict.fromkeys(self.entry(name.strip()).name for name in text.split(",")))

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self.discover()
        return sorted(self._entries)

    def entries(self) -> list[Entry[T]]:
        """All entries, sorted by name."""
        return [self._entries[name] for name in self.names()]

    def discover(self) -> None:
        """Import the built-in modules and installed plug-ins, once."""
        if self._discovered:
            return
        self._discovered = True
        with _loading_from(NOTHING):
            for package in self._packages:
                for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
                    importlib.import_module(module.name)
        from importlib.metadata import entry_points  # slow to import, and --help needs none

        for point in entry_points(group=self._group) if self._group else ():
            where = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            with _loading_from(_Loading(where)):
                try:
                    point.load()
                except Exception as error:
                    raise UserError(f"the installed plug-in {where} fails to import: {_where(error)}.") from error


def load_plugin(path: str | Path) -> None:
    """Run a user's ``.py`` file, which must register at least one thing under a free name.

    Raises:
        UserError: no such file, it fails to import, registers nothing, or takes a name that exists. Whatever it had
            registered by then is taken back.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"--plugin {path}: no such Python file.")
    name = f"seqbench_plugin_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return
    added: list[tuple[Registry[Any], str]] = []
    code = hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        with _loading_from(_Loading(f"file {file.name}", code, added)):
            _run_file(name, file)
        if not added:
            raise UserError(
                f"--plugin {path}: the file registers nothing; use seqbench.register_model or seqbench.register_task."
            )
    except BaseException as error:
        sys.modules.pop(name, None)
        for registry, taken in added:
            registry.remove(taken)
        if isinstance(error, UserError):
            raise UserError(f"--plugin {path}: {error}" if "--plugin" not in str(error) else str(error)) from error
        if isinstance(error, (Exception, SystemExit)):
            raise UserError(f"--plugin {path} fails to import: {_where(error, file)}.") from error
        raise
    _loaded[file.resolve()] = code


def loaded_plugins() -> tuple[Path, ...]:
    """The files that `load_plugin` has run in this process, which another process needs to know the same names.

    Raises:
        UserError: one of them has changed since: another process would load other code under the same names.
    """
    for file, code in _loaded.items():
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != code:
            raise UserError(f"{file} has changed since it was loaded: start Python again and load it again.")
    return tuple(_loaded)


def _code_around(module: str) -> str | None:
    """SHA-256 of the script, or the cell of a notebook, that is running in ``module``; None where it is not kept."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals) if frame else []
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def _run_file(name: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    spec.loader.exec_module(module)


@contextlib.contextmanager
def _loading_from(loading: _Loading) -> Iterator[None]:
    token = _loading.set(loading)
    try:
        yield
    finally:
        _loading.reset(token)


def _where(error: BaseException, file: Path | None = None) -> str:
    """``NameError: ... (line 3)``: the error and, where it lies in ``file``, its line."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if file is not None and Path(frame.filename).resolve() == file.resolve()
    ]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    place = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}{place}"
