"""Reading sequences that users bring: FASTA, GenBank and tables, good and bad."""

import pytest
from reader_files import genbank, packed_gz, told, write

from seqbench.errors import UserError
from seqbench.readers import sequences
from seqbench.readers.sequences import SequenceColumns, read_sequences


def test_fasta_is_read(tmp_path):
    path = write(
        tmp_path / "a.fa", '\n>s1 label=donor x\nacgu\nRYN\n\n>s1|label="two words"\nAC GT\r\n>s3 unlabel=x\nA\n'
    )
    first, second, third = read_sequences(path)
    assert first == sequences.Sequence("s1", "ACGTNNN", "donor", 2)
    assert (second.letters, second.label, second.line) == ("ACGT", "two words", 6)
    assert (third.name, third.label) == ("s3", None)


def test_genbank_is_read(tmp_path):
    text = (
        genbank("AB1", source='/note="label=donor"')
        + genbank("AB2", definition="Something, label=acceptor.")
        + genbank("AB3", comment='A comment with label="two words" in it.')
        + genbank("AB4", source='/label="neither"', letters="acgurykmn" * 5)
        + genbank("AB5")
    )
    found = read_sequences(write(tmp_path / "a.gb.gz", packed_gz(text.encode())))
    assert [one.label for one in found] == ["donor", "acceptor", "two words", "neither", None]
    assert [one.name for one in found] == ["AB1", "AB2", "AB3", "AB4", "AB5"]
    assert found[0].letters == "ACGT" * 4 and found[3].letters == "ACGTNNNNN" * 5
    lines = text.splitlines()
    assert all(lines[one.line - 1].startswith(f"LOCUS       {one.name}") for one in found)


def test_a_label_is_one_in_all_forms_of_unicode_and_unknown_bases_are_bases(tmp_path):
    unknown = "ACGT" + 500 * "N" + "ACGT"
    path = write(tmp_path / "a.fa", f">a label=caf\u00e9\n{unknown}\n>b label=cafe\u0301\nNNNN\n")
    first, second = read_sequences(path)
    assert first.label == second.label == "caf\u00e9" and first.letters == unknown and second.letters == "NNNN"


def test_sequences_of_a_table_are_read(tmp_path):
    path = write(tmp_path / "a.csv", "sequence,label\nACGU,1\nnnn,2\n")
    assert [(one.letters, one.label, one.line) for one in read_sequences(path)] == [("ACGT", "1", 2), ("NNN", "2", 3)]
    assert read_sequences(write(tmp_path / "b.csv", "sequence\nA\n"))[0].label is None


TOO_LONG = "A" * 1_000_001


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.fa", ">s1\nACGT\nACXT\n", ("line 3", "'X' at position 7", "'s1'")),
        ("a.fa", ">s1\nAC\n>s2\nAC GT\nA-T\n", ("line 5", "'-' at position 6", "'s2'")),
        ("a.fa", ">s1\nAC\u017f\n", ("line 2", "position 3")),
        ("a.fa", ">s1\nACGT\n>s2\n>s3\nA\n", ("line 3", "'s2' has length 0")),
        ("a.fa", ">s1\nACGT\n>s2", ("line 3", "'s2' has length 0")),
        ("a.fa", f">s1\nA\n>s2\n{TOO_LONG}\n", ("line 3", "'s2' has 1,000,001 letters")),
        ("a.fa", "\nACGT\n>s1\nACGT\n", ("line 2", "begins with >")),
        ("a.fasta", "\n\n", ("no record",)),
        ("a.fa", ">s1 label=\nA\n", ("line 1", "label= has no value")),
        ("a.fa", '>s1\nA\n>s2 label="x\nA\n', ("line 3", "quote")),
        ("a.fna", b">s1\nA\xff\n", ("line 2", "UTF-8")),
        ("a.fas", ">s1\nA\n>s2 label=\x1b[31mred\nA\n", ("line 3", "control character")),
        ("a.ffn", ">s1\nA\n>s\x1b[2J\nA\n", ("line 3", "control character")),
        ("a.gb", genbank() + genbank("AB2", letters="acgt" * 8 + "acxt"), ("line 25", "'X' at position 35", "'AB2'")),
        ("a.gb", genbank() + genbank()[:-8], ("line 14", "GenBank")),
        ("a.gb", genbank()[:-3] + genbank(), ("GenBank",)),
        ("a.gb", genbank().replace(" bp ", "9bp "), ("line 1", "GenBank")),
        ("a.gb", genbank().replace("ORIGIN\n", "").replace("        1 acgtacgtac gtacgt\n", ""), ("line 1",)),
        ("a.gb", ">s1\nACGT\n", ("no record",)),
        ("a.csv", "sequence,label\nAC,1\nAXC,1\n", ("line 3", "'sequence'", "'X' at position 2")),
        ("a.csv", "sequence,label\nAC,1\n,1\n", ("line 3", "'sequence'", "length 0")),
        ("a.csv", f"sequence,label\nAC,1\n{TOO_LONG},1\n", ("line 3", "1,000,001")),
        ("a.csv", "seq,label\nAC,1\n", ("no column 'sequence'", "did you mean 'seq'")),
        ("a.doc", "ACGT", (".fasta",)),
    ],
)
def test_a_malformed_sequence_is_told(tmp_path, name, content, parts):
    told(write(tmp_path / name, content), lambda: read_sequences(tmp_path / name), *parts)


def test_columns_and_words_of_headers_are_named(tmp_path):
    table, fasta = tmp_path / "a.csv", tmp_path / "a.fasta"
    table.write_text("dna,kind,part\nAC,x,train\nAG,,test\n")
    fasta.write_text(">a kind=x part=train\nAC\n>b part=test label=no\nAG\n")
    columns = SequenceColumns("dna", "kind", ("part",))
    for path in (table, fasta):
        assert [(s.letters, s.label, s.also) for s in read_sequences(path, columns)] == [
            ("AC", "x", ("train",)),
            ("AG", None, ("test",)),
        ]
    with pytest.raises(UserError, match="no column 'sort'"):
        read_sequences(table, SequenceColumns("dna", "sort"))
