"""Make translation.parquet: pairs of German and English sentences of LibreOffice's help.

Source: the Debian packages `libreoffice-help-de` and `libreoffice-help-en-us` 4:7.4.7-1+deb12u14 (bookworm), as
`apt-get download` leaves them; SOURCES.md has licence and citation. Run by hand, with lxml, in the folder of the two
packages: `python tasks/data/make_translation.py --packages FOLDER [--out FILE]`. They are archives of the ar format
around a tar, so nothing of Debian is needed to read them.

The pages of both languages have the same names, and their paragraphs the same ids: that is what aligns them. Paragraphs
are cut into sentences where both sides have as many; where they don't, a short paragraph stays as it is. Left out are
pairs that are no translation by what can be counted: equal on both sides, with other numbers on one side than on the
other, one side much longer, too short, too long, without a word. Of pairs whose English is the same but for numbers,
signs and case the first is kept.

Columns: german, english (string), sorted by page, paragraph and place in it, so that neighbours are alike.

Traps: some words depend on the reader's system or program, and a page holds all of them, hidden: a system's own are
dropped where there is one for all others, and a paragraph with others is left out. Placeholders that tools have left
(`<?>`) are no text. A full stop after an abbreviation ends no sentence. Near-duplicates remain: splitting is left to
the task.
"""

import argparse
import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
from lxml import html  # type: ignore[import-untyped, unused-ignore]

VERSION = "7.4.7-1+deb12u14"
PACKAGES = {  # language of the pages, with the package's name and SHA-256
    "de": ("libreoffice-help-de", "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f"),
    "en-US": ("libreoffice-help-en-us", "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712"),
}
PARAGRAPHS = ("p", "h1", "h2", "h3", "h4", "h5", "h6")
ENGLISH_WORDS, GERMAN_WORDS = (4, 40), (3, 45)  # of a paragraph, by white space
ENGLISH_TOKENS, GERMAN_TOKENS = (3, 40), (3, 45)  # of a sentence, words and signs
RATIO = 0.5, 2.2  # characters of the German for each of the English
TOKEN = re.compile(r"\w+|[^\w\s]")
# after a sign that ends a sentence and what closes there, before a capital, a number or what opens there
BORDER = re.compile(r"(?<=[.!?])[\"'”“»)]{0,2}\s+(?=[\"'„“«(]?[A-ZÄÖÜ0-9])")
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:z\.\s?B|d\.\s?h|u\.\s?a|e\.\s?g|i\.\s?e|etc|bzw|usw|ca|inkl|evtl|Nr|No|vs|St|Mr|Abb|Fig)\.$"
)
LEFTOVERS = re.compile(r"<\?>|\ufeff|\u00ad|\u200b")
Page = tuple[str, str]  # the page's path without the language, and a paragraph's id in it


def package_file(folder: Path, language: str) -> Path:
    """The package of a language in ``folder``, its SHA-256 checked. Raises FileNotFoundError or ValueError."""
    name, digest = PACKAGES[language]
    found = sorted(folder.glob(f"{name}_*{VERSION}_all.deb"))
    if not found:
        raise FileNotFoundError(f"{folder} has no package {name} {VERSION}: apt-get download {name}=4:{VERSION}")
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != digest:
        raise ValueError(f"{found[0].name} has not the SHA-256 of Debian's package: download it again.")
    return found[0]


def members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an ar archive."""
    at = len(b"!<arch>\n")
    while at < len(archive):
        header, at = archive[at : at + 60], at + 60
        size = int(header[48:58])
        yield header[:16].decode().strip().rstrip("/"), archive[at : at + size]
        at += size + size % 2


def pages(package: Path, language: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of every page of help in ``package``, in order of the path."""
    data = next(content for name, content in members(package.read_bytes()) if name.startswith("data.tar"))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        root = f"./usr/share/libreoffice/help/{language}/text/"
        entries = {entry.name: entry for entry in tar if entry.name.startswith(root) and entry.name.endswith(".html")}
        for name in sorted(entries):
            file = tar.extractfile(entries[name])
            if file is not None:
                yield name.removeprefix(root), file.read()


def paragraphs(package: Path, language: str) -> dict[Page, str]:
    """The text of every paragraph with an id, in order; of hidden words those for most readers."""
    texts = {}
    for path, content in pages(package, language):
        page = html.fromstring(content, parser=html.HTMLParser(encoding="utf-8"))
        for element in page.xpath('//*[@id="DisplayArea"]//*[@id]'):
            if element.tag in PARAGRAPHS and choose_words(element):
                text = " ".join(LEFTOVERS.sub("", element.text_content()).split())
                if text:
                    texts[path, element.get("id")] = text
    return texts


def choose_words(element: html.HtmlElement) -> bool:
    """Drop the words for one system where there are some for all others; false where words depend on a program."""
    for span in element.xpath('.//span[@hidden="true"][@class]'):
        usual = [one for one in span.getparent().xpath('./span[@hidden="true"]') if one.get("class") is None]
        if not usual:
            return False
        span.drop_tree()
    return True


def sentences(text: str) -> list[str]:
    """``text`` cut after each sentence."""
    cut: list[str] = []
    at = 0
    for border in BORDER.finditer(text):
        piece = text[at : border.start()] + border.group().rstrip()
        if not ABBREVIATION.search(piece):
            cut.append(piece)
            at = border.end()
    return [*cut, text[at:]]


def within(count: int, limits: tuple[int, int]) -> bool:
    """Whether ``count`` lies between ``limits``, both included."""
    return limits[0] <= count <= limits[1]


def is_pair(german: str, english: str) -> bool:
    """Whether the two can be a translation of each other, by what can be counted."""
    numbers = [sorted(re.findall(r"\d+", text)) for text in (german, english)]
    return (
        german != english
        and numbers[0] == numbers[1]
        and within(len(TOKEN.findall(english)), ENGLISH_TOKENS)
        and within(len(TOKEN.findall(german)), GERMAN_TOKENS)
        and RATIO[0] <= len(german) / len(english) <= RATIO[1]
        and re.search(r"[A-Za-z]{3}", english) is not None
    )


def build(folder: Path) -> pa.Table:
    """The table of translation.parquet; prints what it counts on the way."""
    german, english = (paragraphs(package_file(folder, language), language) for language in PACKAGES)
    aligned = [(german[key], text) for key, text in english.items() if key in german]
    print(f"paragraphs: {len(german):,} German, {len(english):,} English, {len(aligned):,} with one id")
    kept: dict[str, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    for theirs, ours in dict.fromkeys(aligned):
        whole = re.search(r"[.!?:]$", ours) is not None
        if not whole or not within(len(ours.split()), ENGLISH_WORDS) or not within(len(theirs.split()), GERMAN_WORDS):
            counts["paragraphs that are no sentences of such a length"] += 1
            continue
        cut = sentences(theirs), sentences(ours)
        even = len(cut[0]) == len(cut[1])
        counts[f"paragraphs {'cut into as many sentences' if even else 'kept whole'}"] += 1
        for first, second in zip(*cut, strict=True) if even else [(theirs, ours)]:
            if not is_pair(first, second):
                counts["pairs that are no translation by count"] += 1
                continue
            kept.setdefault(re.sub(r"[\W\d_]+", "", second.lower()), (first, second))
            counts["pairs"] += 1
    print(dict(counts), f"distinct {len(kept):,}")
    columns = zip(*kept.values(), strict=True)
    return pa.table({name: pa.array(texts) for name, texts in zip(("german", "english"), columns, strict=True)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of the two packages")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("translation.parquet"))
    arguments = parser.parse_args()
    # one page for each column, so that zstd sees how alike sentences are that stand far apart
    options = {"compression": "zstd", "compression_level": 22, "data_page_size": 2**24, "write_batch_size": 2**20}
    pq.write_table(build(arguments.packages), arguments.out, use_dictionary=False, **options)
    out = arguments.out
    print(f"{out.name}: {out.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")
