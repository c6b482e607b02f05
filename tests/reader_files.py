"""Files for tests of the readers, plain and packed, and the one sentence that a bad file ends in."""

import gzip
import io
import tarfile
import zipfile

import pytest

from seqbench.errors import UserError


def packed_gz(content):
    """Without the time, which would make other test names in every second, and so in every worker."""
    return gzip.compress(content, mtime=0)


def told(path, call, *parts):
    """``call()`` ends in one sentence that names the file, but not its directory, and holds ``parts``."""
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert said.isprintable() and said.endswith((".", "?")), said
    assert path.name in said and str(path.parent) not in said, said
    for part in parts:
        assert part in said, said
    return said


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tar_of(*members, mode="w"):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return held.getvalue()


def zip_of(*members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)  # with no time, as above
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def genbank(name="AB1", letters="acgtacgtacgtacgt", definition="A thing.", source="", comment=""):
    pieces = [letters[i : i + 10] for i in range(0, len(letters), 10)]
    rows = [f"{10 * i + 1:>9} {' '.join(pieces[i : i + 6])}" for i in range(0, len(pieces), 6)]
    return (
        f"LOCUS       {name:<16} {len(letters):>11} bp    DNA     linear   PLN 01-JAN-2020\n"
        f"DEFINITION  {definition}\n"
        f"ACCESSION   {name}\nVERSION     {name}.1\nKEYWORDS    .\nSOURCE      x\n  ORGANISM  x\n            x.\n"
        f"{'COMMENT     ' + comment + chr(10) if comment else ''}FEATURES             Location/Qualifiers\n"
        f"     source          1..{len(letters)}\n"
        f"{' ' * 21 + source + chr(10) if source else ''}"
        "ORIGIN\n" + "\n".join(rows) + "\n//\n"
    )
