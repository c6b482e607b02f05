"""Names to things: the one way in for tasks, models, baselines, heads and probes, built-in or a user's own.

A module registers what it defines by decorator. Built-in modules are found by listing their package, installed
plug-ins by entry points (groups such as ``seqbench.tasks``), a user's file by ``--plugin`` (`load_plugin`): all three
end in the same `Registry.add`. Each registry lives beside what it holds; this module knows none of them.
"""

from __future__ import annotations

import ast
import contextlib
import contextvars
import dis
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import pkgutil
import re
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from seqbench.errors import UserError, nearest

__all__ = ["Entry", "Registry", "check_name", "load_plugin", "loaded_plugins", "plugin_files", "registered_by"]

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


class _Plugin(NamedTuple):
    """A file that `load_plugin` has run: the SHA-256 of what it held then, and what it registered."""

    code: str
    added: list[tuple[Registry[Any], str]]


_loaded: dict[Path, _Plugin] = {}
_filling = threading.RLock()  # of all registries: who looks a name up waits until another thread has found them all


def check_name(name: str, noun: str) -> str:
    """Return ``name`` if it can safely be part of a path, else raise `UserError`."""
    if not NAME.match(name):
        raise UserError(f"{noun} name {name!r} must be lower-case letters, digits, - and _ (64 at most).")
    return name


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing and where it came from (a module, a distribution or a file).

    ``source`` is the SHA-256 of a user's own file, or of a notebook's cell. ``here_only`` is what a notebook or a
    script registered itself: another process does not know it. What is not ``listed`` is found by its name alone.
    """

    name: str
    value: T
    aliases: tuple[str, ...]
    origin: str
    source: str | None = None
    here_only: bool = False
    listed: bool = True

    @property
    def code(self) -> str | None:
        """SHA-256 of the user's own code, None for what is installed.

        Such code is edited without a new version, and a result of the old must not be taken for one of the new. What a
        notebook or a script registered also depends on other cells, so its functions and the plain values that they
        read there count as they are now.
        """
        return _code_with_globals(self.source, self.value, self.origin) if self.here_only else self.source

    @property
    def apart(self) -> bool:
        """Whether it had better run in a process of its own: others have written it, and it can be loaded there."""
        return not self.here_only and not self.origin.startswith("seqbench.")


class Registry(Generic[T]):
    """Names to values; fills itself from ``packages`` and entry points at the first look-up."""

    def __init__(self, noun: str, *packages: str, group: str | None = None) -> None:
        self.noun = noun
        self._packages = packages
        self._group = group
        self._entries: dict[str, Entry[T]] = {}
        self._aliases: dict[str, str] = {}
        self._discovered = False

    def add(self, name: str, value: T, *, aliases: tuple[str, ...] = (), module: str = "", listed: bool = True) -> T:
        """Register ``value``, defined in ``module``; raises `UserError` if the name is taken or unfit for a path.

        What a notebook or a script has registered itself it can register again: the cell was edited, or run once more.
        """
        loading = _loading.get()
        if loading.origin:  # built-in names first, so that a clash is the plug-in's
            self.discover()
        origin = loading.origin or module or str(getattr(value, "__module__", "?"))
        here_only = not loading.origin and not origin.startswith("seqbench.")
        old = self._entries.get(name)
        again = old is not None and here_only and old.here_only and old.origin == origin and origin in sys.modules
        for taken in (name, *aliases):
            check_name(taken, self.noun)
            holder = self._entries.get(self._aliases.get(taken, ""))
            if holder is not None and not (again and holder is old):
                raise UserError(
                    f"{self.noun} {taken!r} ({origin}) is already registered by {holder.origin}: choose another name."
                )
        if again:
            self.remove(name)
        source = _source_around(origin) if here_only else loading.code
        self._entries[name] = Entry(name, value, aliases, origin, source, here_only, listed)
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
            raise UserError(nearest(name, self.names(), self.noun))
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
        """All names that are listed, sorted."""
        self.discover()
        return sorted(name for name, entry in self._entries.items() if entry.listed)

    def entries(self) -> list[Entry[T]]:
        """All entries that are listed, sorted by name."""
        return [self._entries[name] for name in self.names()]

    def discover(self) -> None:
        """Import the built-in modules and installed plug-ins, once."""
        with _filling:
            if not self._discovered:
                self._discovered = True
                self._fill()

    def _fill(self) -> None:
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

    A file that was loaded before is run again only if it has changed, or a module that it imports from its own folder;
    what it had registered is taken back first.

    Raises:
        UserError: no such file, it fails to import, registers nothing, or takes a name that exists. Whatever it had
            registered by then is taken back.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"--plugin {path}: no such Python file.")
    name = f"seqbench_plugin_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    content = file.read_bytes()
    helpers = _helpers_of(file, content)
    code = _code_of(content, helpers)
    before = _loaded.get(file.resolve())
    if before is not None and before.code == code:
        return
    if before is not None:
        _take_back(before.added)
        del _loaded[file.resolve()]
    _HELPERS.offer(helpers, anew=before is not None)
    added: list[tuple[Registry[Any], str]] = []
    try:
        with _loading_from(_Loading(f"file {file.name}", code, added)):
            _run_file(name, file, content)
        if not added:
            raise UserError(
                f"--plugin {path}: the file registers nothing; use seqbench.register_model or seqbench.register_task."
            )
    except BaseException as error:
        sys.modules.pop(name, None)
        _HELPERS.withdraw(helpers)
        _take_back(added)
        if isinstance(error, UserError):
            raise UserError(f"--plugin {path}: {error}" if "--plugin" not in str(error) else str(error)) from error
        if isinstance(error, (Exception, SystemExit, GeneratorExit)):
            raise UserError(f"--plugin {path} fails to import: {_where(error, file)}.") from error
        raise
    _loaded[file.resolve()] = _Plugin(code, added)


def _take_back(added: list[tuple[Registry[Any], str]]) -> None:
    for registry, name in added:
        with contextlib.suppress(KeyError):  # it was taken back already
            registry.remove(name)


def registered_by(path: str | Path) -> list[tuple[Registry[Any], str]]:
    """What the file that `load_plugin` has run registered: where, and under which names, in that order."""
    return list(_loaded[Path(path).resolve()].added)


def loaded_plugins(*, elsewhere: bool = True) -> tuple[Path, ...]:
    """The files that `load_plugin` has run in this process, which another process needs to know the same names.

    Raises:
        UserError: one of them has changed since: this process would run what no longer stands there, and another one
            would load other code under the same names. One that is gone matters only ``elsewhere``.
    """
    for file, plugin in _loaded.items():
        content = file.read_bytes() if file.is_file() else None
        if content is None and elsewhere:
            raise UserError(f"{file} is gone since it was loaded, and other processes need it: put it back.")
        helpers = {} if content is None else _helpers_of(file, content)
        if content is not None and _code_of(content, helpers) != plugin.code:
            what = f"{file} or what it imports from its folder" if helpers else str(file)
            raise UserError(f"{what} has changed since it was loaded: load it again with seqbench.load_plugin.")
    return tuple(_loaded)


# --- modules that a plug-in imports from its own folder --------------------------------------------------------------


def plugin_files(path: str | Path) -> dict[str, Path]:
    """The file of a plug-in and the modules that it imports from its folder, by their places in it; packages' folders,
    too.
    """
    file = Path(path).resolve()
    others = _helpers_of(file, file.read_bytes()).values()
    return {str(one.relative_to(file.parent)): one for one in (file, *others)}


def _helpers_of(file: Path, content: bytes) -> dict[str, Path]:
    """The modules beside ``file`` that it imports, and those that they import, by name; a folder without code, too.

    They are found by reading and not by running, so that those which a function imports later are among them. What is
    installed comes first: a folder ``datasets`` beside the file is not the package.
    """
    found: dict[str, Path] = {}
    waiting = [(content, "")]
    while waiting:
        source, package = waiting.pop()
        for name in _imported(source, package):
            for module, path in _beside(file.resolve().parent, name):
                if module in found:
                    continue
                found[module] = path
                if path.is_file():
                    inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
                    waiting.append((path.read_bytes(), inside))
    return found


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Names that ``source`` imports, wherever that stands in it; some of them are of functions, not of modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # running it will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (not node.level or package):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _beside(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The module ``name`` and the packages around it as files in ``folder``, as far as they are there."""
    parts = name.split(".")
    if not _is_free(parts[0], folder):
        return
    for end in range(1, len(parts) + 1):
        stem = folder.joinpath(*parts[:end])
        files = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
        path = next((file for file in files if file.is_file()), stem)
        if not path.exists() or (end == len(parts) and path == stem):
            return
        yield ".".join(parts[:end]), path


def _is_free(name: str, folder: Path) -> bool:
    """Whether no module called ``name`` is found elsewhere than in ``folder``."""
    if name == "seqbench" or name in sys.stdlib_module_names:
        return False
    for finder in sys.meta_path:
        if finder is not _HELPERS and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec.origin is None or Path(spec.origin).resolve().is_relative_to(folder)
    return True


def _code_of(content: bytes, helpers: Mapping[str, Path]) -> str:
    """SHA-256 of a plug-in's file, and of what it imports from its folder if there is any."""
    digest = hashlib.sha256(content)
    for name, path in sorted(helpers.items()):
        if path.is_file():
            digest.update(f"\0{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


class _Source(importlib.machinery.SourceFileLoader):
    """Runs what the file says: byte code in __pycache__ passes for that of a file edited within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Helpers:
    """Lets plug-ins import from their own folders; Python asks it for every module that is not imported yet."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self.hashes: dict[str, str] = {}  # of modules that were offered

    def offer(self, helpers: Mapping[str, Path], *, anew: bool) -> None:
        """From here on these names mean these files; they are run anew if one is not what it was."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        hashes = {name: _code_of(b"", {name: path}) for name, path in helpers.items()}
        known = all(
            self.files.get(name) == path and self.hashes[name] == hashes[name] for name, path in helpers.items()
        )
        if anew or not known:
            self.withdraw(helpers)
        self.files |= helpers
        self.hashes |= hashes

    def withdraw(self, helpers: Iterable[str]) -> None:
        """Forget them, so that they are run again when they are next imported."""
        for name in helpers:
            sys.modules.pop(name, None)
            self.files.pop(name, None)
            self.hashes.pop(name, None)

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """As Python wants it of a finder."""
        file = self.files.get(name)
        if file is None:
            return None
        if file.is_dir():
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(file)]
            return spec
        within = [str(file.parent)] if file.name == "__init__.py" else None
        loader = _Source(name, str(file))
        return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=within)


_HELPERS = _Helpers()


# --- what a notebook or a script registers ---------------------------------------------------------------------------


def _code_with_globals(source: str | None, value: object, module: str) -> str:
    """SHA-256 of ``source``, of the functions of ``value`` and of what they read from ``module``."""
    digest = hashlib.sha256((source or "").encode())
    for part in _parts(value, module, set()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _is_own(name: str, module: str) -> bool:
    """Whether the module called ``name`` is ``module`` itself or stands in its folder, or that of the notebook."""
    if name == module:
        return True
    files = [getattr(sys.modules.get(each), "__file__", None) for each in (name, module)]
    if files[0] is None or name.partition(".")[0] in ("seqbench", *sys.stdlib_module_names):
        return False
    file, folder = Path(files[0]).resolve(), (Path(files[1]).parent if files[1] else Path.cwd()).resolve()
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return file.is_relative_to(folder) and not any(file.is_relative_to(place) for place in installed)


def _parts(value: object, module: str, seen: set[int]) -> Iterator[str]:
    """The plain values and the functions that ``value`` is made of, as texts.

    What other modules define is left out, unless they stand beside ``module``: these are edited with it.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    inner: Iterator[tuple[str, object]]
    if isinstance(value, (staticmethod, classmethod)):
        inner = iter([("function", value.__func__)])
    elif isinstance(value, property):
        inner = iter([("get", value.fget)])
    elif isinstance(value, FunctionType):
        if not _is_own(value.__module__, module):
            return
        inner = _read_by(value)
    elif isinstance(value, (list, tuple)):
        inner = ((str(i), item) for i, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        inner = ((str(i), item) for i, item in enumerate(sorted(value, key=repr)))
    elif isinstance(value, Mapping):
        inner = ((repr(key), item) for key, item in value.items())
    elif isinstance(value, type):
        inner = (
            (f"{base.__name__}.{name}", item)
            for base in value.__mro__
            if _is_own(base.__module__, module)
            for name, item in sorted(vars(base).items())
            if not name.startswith("__") or isinstance(item, FunctionType)
        )
    elif isinstance(value, ModuleType):
        if not _is_own(value.__name__, module):
            return
        inner = ((name, item) for name, item in sorted(vars(value).items()) if not name.startswith("__"))
    elif _is_own(type(value).__module__, module) or type(value).__module__.startswith("seqbench."):  # a ModelSpec, say
        inner = iter(sorted(getattr(value, "__dict__", {}).items()))
    else:
        return
    for name, item in inner:
        yield name
        yield from _parts(item, module, seen)


def _read_by(function: FunctionType) -> Iterator[tuple[str, object]]:
    """What ``function`` does, and the values that it reads from around it, by name."""
    yield "code", "".join(_texts(function.__code__))
    yield "defaults", function.__defaults__
    yield "keyword defaults", function.__kwdefaults__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not yet set
            yield name, cell.cell_contents
    codes = [function.__code__]
    for code in codes:
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
    names = {step.argval for code in codes for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    for name in sorted(names & function.__globals__.keys()):
        yield name, function.__globals__[name]


def _texts(code: CodeType) -> Iterator[str]:
    """``code`` without what tells only where it stands."""
    yield code.co_code.hex() + repr((code.co_names, code.co_varnames))
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _texts(const)
        else:
            yield repr(sorted(map(repr, const)) if isinstance(const, frozenset) else const)


def _source_around(module: str) -> str | None:
    """SHA-256 of the script, or the cell of a notebook, that is running in ``module``; None where it is not kept."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals) if frame else []
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def _run_file(name: str, file: Path, content: bytes) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    # not by the loader: its byte code in __pycache__ passes for that of a file edited within the same second
    exec(compile(content, str(file), "exec", dont_inherit=True), module.__dict__)


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
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}{place}"
