"""Opening a file that the user brings: plain, compressed (.gz, .bz2, .xz) or the one file in a .zip or .tar.

Nothing is ever extracted to disk. What is read is counted, so that a small archive of a huge file ends in a sentence;
what is no regular file (a directory, a pipe, a device) is refused before anything could block. `survey` passes over a
text once, keeping nothing, so that what comes after can rely on UTF-8 and on a size. Whatever is wrong is a `UserError`
of one line that calls the file by its name and never by its directory, since records are made to be shared.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from seqbench.errors import UserError

__all__ = [
    "BLANK",
    "CONTROL",
    "LIMIT",
    "OwnFile",
    "one_form",
    "open_own",
    "shown",
    "suffix_of",
    "survey",
    "title",
    "unchanged",
]

LIMIT = 4 * 2**30  # bytes, unpacked
MEMORY_LIMIT = 2**30  # bytes of a compressed file of a format that can only be read at random, so in memory
MAX_LINE = 2**26  # bytes of a line in files that are read by lines
RETURN = re.compile(rb"\n\r\n|\r(?!\n)")  # a blank line, and a return that alone ends a line
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
COMPRESSIONS = (".gz", ".bz2", ".xz")
ARCHIVES = (".tar", ".zip")
CONTROL = "[\x00-\x08\x0e-\x1f\x7f\u0080-\u0084\u0086-\u009f\u202a-\u202e\u2066-\u2069]"  # would steer a terminal
BLANK = "[\ufeff\t\n\x0b\x0c\r\u0085\u2028\u2029]+"  # breaks and tabs in a name or a label count as a space
SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz"}
PACKINGS = ((), *((one,) for one in (*COMPRESSIONS, *ARCHIVES)), *((one, ".tar") for one in COMPRESSIONS))


def shown(value: object, width: int = 30) -> str:
    """``value`` as a sentence quotes it: on one line whatever it holds, and cut to ``width`` characters."""
    text = str(value)
    return repr(text if len(text) <= width else text[:width] + "...")


def one_form(text: str) -> str:
    """A name or a label as it is compared: in Unicode's composed form, on one line, with no white space around."""
    return re.sub(BLANK, " ", unicodedata.normalize("NFC", text.replace("\ufeff", ""))).strip()


def title(path: Path) -> str:
    """The file's name as sentences use it: no directory, no line break."""
    return path.name if path.name.isprintable() and path.name else shown(path.name, 100)


class OwnFile:
    """An open file of the user's. Streams read from one descriptor: take a second only when done with the first."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self.name = title(path)
        self.suffix, self._packing = _layers(path)
        self._file = file
        self._member: str | None = None
        if self._packing and self._packing[-1] in ARCHIVES:
            self._member = self._only_member()
            self.suffix = self.suffix or PurePosixPath(self._member).suffix.lower()

    def stream(self) -> BinaryIO:
        """The unpacked bytes from the first on."""
        return self._stream(self._packing)

    def text(self, newline: str | None = None) -> io.TextIOWrapper:
        """The unpacked text. `survey` has seen that it is UTF-8; if it no longer is, `unchanged` will tell."""
        return io.TextIOWrapper(self.stream(), "utf-8-sig", "replace", newline)

    def _stream(self, packing: tuple[str, ...]) -> BinaryIO:
        self._file.seek(0)
        source: Any = self._file
        for one in packing:
            source = io.BufferedReader(_Counted(self._unpack(one, source), self.name, packed=True), 2**20)
        return source if packing else io.BufferedReader(_Counted(source, self.name, packed=False), 2**20)

    def at_random(self) -> BinaryIO:
        """The unpacked bytes as a file that can seek; those of a compressed file are held in memory."""
        if not self._packing:
            self._file.seek(0)
            return self._file
        held = io.BytesIO()
        with self.stream() as stream:
            while chunk := stream.read(2**20):
                if held.tell() + len(chunk) > MEMORY_LIMIT:
                    raise UserError(f"{self.name} unpacks to more than {_size(MEMORY_LIMIT)}: unpack it first.")
                held.write(chunk)
        held.seek(0)
        return held

    def _unpack(self, packing: str, source: Any) -> Any:
        with self._told():
            if packing == ".gz":
                return gzip.GzipFile(fileobj=source, mode="rb")
            if packing == ".bz2":
                return bz2.BZ2File(source)
            if packing == ".xz":
                return lzma.LZMAFile(source)
            if packing == ".zip":
                return zipfile.ZipFile(source).open(self._member or "")
            archive = tarfile.open(fileobj=source, mode="r|")  # noqa: SIM115  # what is returned reads from it
            return archive.extractfile(next(one for one in archive if one.isreg() and one.name == self._member))

    def _only_member(self) -> str:
        """The name of the archive's only file."""
        with self._told():
            if self._packing == (".zip",):
                zipped = zipfile.ZipFile(self._file)
                if any(info.flag_bits & 1 for info in zipped.infolist()):
                    raise UserError(f"{self.name} is encrypted: unpack it first.")
                return self._choose((info.filename, _zip_kind(info)) for info in zipped.infolist())
            with tarfile.open(fileobj=self._stream(self._packing[:-1]), mode="r|") as archive:
                return self._choose((member.name, _tar_kind(member)) for member in archive)

    def _choose(self, members: Iterable[tuple[str, str]]) -> str:
        chosen: list[str] = []
        for name, kind in members:
            parts = PurePosixPath(name.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:", name):
                raise UserError(f"{self.name} holds a path that leads outside of it, {shown(name, 60)}: it isn't read.")
            if kind == "other":
                raise UserError(f"{self.name} holds a link or a device, {shown(name, 60)}: it isn't read.")
            if kind == "file" and parts.parts[:1] != ("__MACOSX",):  # macOS adds a file of attributes to each file
                chosen.append(name)
            if len(chosen) > 1:
                raise UserError(f"{self.name} holds more than one file: pack the one that is meant alone.")
        if not chosen:
            raise UserError(f"{self.name} holds no file.")
        return chosen[0]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # the standard library's readers raise a dozen kinds over damaged bytes
            raise _damaged(self.name, error, packed=True) from None


class _Counted(io.RawIOBase):
    """The bytes of ``source`` up to `LIMIT`; its errors become sentences."""

    def __init__(self, source: Any, name: str, *, packed: bool) -> None:
        self.source, self.name, self.packed = source, name, packed
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.source.read(len(buffer))
        except UserError:
            raise
        except Exception as error:  # as in OwnFile._told
            raise _damaged(self.name, error, packed=self.packed) from None
        self.total += len(data)
        if self.total > LIMIT:
            raise UserError(f"{self.name} {'unpacks to' if self.packed else 'has'} more than {_size(LIMIT)}: split it.")
        buffer[: len(data)] = data
        return len(data)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"


def _damaged(name: str, error: Exception, *, packed: bool) -> UserError:
    if packed:
        return UserError(f"{name} is damaged, cut off, or no such archive ({type(error).__name__}): pack it again.")
    return UserError(f"{name} can't be read ({getattr(error, 'strerror', None) or type(error).__name__}).")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16  # zero where the archive was not made on a Unix
    if info.is_dir():
        return "folder"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "other"


def _tar_kind(member: tarfile.TarInfo) -> str:
    return "file" if member.isreg() else "folder" if member.isdir() else "other"


def _layers(path: Path) -> tuple[str, tuple[str, ...]]:
    """The suffix of the data and the packing around it, outermost first: ``a.CSV.tar.gz``: .csv, (.gz, .tar)."""
    name = path.name.lower()
    for short, long in SHORT.items():
        if name.endswith(short):
            name = name.removesuffix(short) + long
    packing: list[str] = []
    while (suffix := PurePosixPath(name).suffix) in COMPRESSIONS + ARCHIVES:
        packing.append(suffix)
        name = name.removesuffix(suffix)
    if tuple(packing) not in PACKINGS:
        raise UserError(f"{title(path)} is packed more than once: unpack it first.")
    return suffix, tuple(packing)


def _open_regular(path: Path) -> io.BufferedReader:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            # a pipe may have taken the file's place meanwhile: O_NONBLOCK opens it without waiting for a writer
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
            about = os.fstat(file.fileno())
            if stat.S_ISREG(about.st_mode) and about.st_size:
                return file
            file.close()
            mode = about.st_mode
    except FileNotFoundError:
        raise UserError(f"{title(path)} is not there: is the path right?") from None
    except PermissionError:
        raise UserError(f"{title(path)} may not be read by you: change its permissions.") from None
    except (OSError, ValueError) as error:
        raise _damaged(title(path), error, packed=False) from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{title(path)} is a directory: name a file in it.")
    raise UserError(f"{title(path)} is {'empty' if stat.S_ISREG(mode) else 'no regular file'}.")


@contextlib.contextmanager
def open_own(path: Path) -> Iterator[OwnFile]:
    """The user's file ``path``, open for reading."""
    with _open_regular(path) as file:
        yield OwnFile(path, file)


def suffix_of(path: Path) -> str:
    """The suffix of the data, under the compression: ``.csv`` of ``a.CSV.gz``; of ``a.zip`` that of the file in it."""
    suffix, packing = _layers(path)
    if suffix or not packing or packing[-1] not in ARCHIVES:
        return suffix
    with open_own(path) as own:
        return own.suffix


def _state(path: Path) -> tuple[int, int, str]:
    with _open_regular(path) as file:
        about = os.fstat(file.fileno())
        return about.st_size, about.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[str]:
    """The SHA-256 of the file as it lies there; `UserError` at the end if the file is no longer the same."""
    before = _state(path)

    def check() -> None:
        with contextlib.suppress(UserError):  # it can't even be opened any more
            if _state(path) == before:
                return
        raise UserError(f"{title(path)} changed while it was read: run again when nothing writes to it.")

    try:
        yield before[2]
    except UserError:
        check()  # half a change is read as all kinds of nonsense: name the cause
        raise
    check()


def survey(own: OwnFile, *, by_lines: bool = True) -> bool:
    """Refuse what is no UTF-8 text; True if no quotes, blank lines or lone carriage returns complicate its lines."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    plain, line, length, end = True, 1, 0, b""
    with own.stream() as stream:
        while chunk := stream.read(2**20):
            while chunk.endswith(b"\r") and (more := stream.read(1)):  # so that no line break is cut in two
                chunk += more
            if not end:
                if chunk.startswith(UTF16):
                    raise UserError(f"{own.name} is UTF-16 text: save it as UTF-8.")
                chunk, end = chunk.removeprefix(codecs.BOM_UTF8), b"\n"  # a break first of all is a blank line
            if (at := chunk.find(0)) >= 0:
                raise UserError(f"{own.name}, line {line + _breaks(chunk[:at])}: a NUL character: is this a text file?")
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise _no_utf8(own, line + _breaks(error.object[: error.start]), error) from None
            if plain:
                joined = end + chunk
                plain = not (b'"' in chunk or b"\n\n" in joined or (b"\r" in chunk and RETURN.search(joined)))
            first = chunk.find(b"\n")
            length += len(chunk) if first < 0 else first
            if by_lines and length > MAX_LINE:
                raise UserError(f"{own.name}, line {line}: the line is longer than {MAX_LINE // 2**20} MiB.")
            length = length if first < 0 else len(chunk) - chunk.rfind(b"\n") - 1
            line += _breaks(chunk)
            end = chunk[-2:] or end
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _no_utf8(own, line, error) from None
    if not end:
        raise UserError(f"{own.name} is empty.")
    return plain


def _breaks(chunk: bytes) -> int:
    """How many lines end in ``chunk``."""
    return chunk.count(b"\n") + (chunk.count(b"\r") - chunk.count(b"\r\n") if b"\r" in chunk else 0)


def _no_utf8(own: OwnFile, line: int, error: UnicodeDecodeError) -> UserError:
    byte = error.object[error.start]
    return UserError(f"{own.name}, line {line}: the text is not UTF-8 (byte 0x{byte:02X}): save the file as UTF-8.")
