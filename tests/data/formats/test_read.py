import codecs
import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from modelforge.data.formats.errors import ReadError
from modelforge.data.formats.read import read_rows
from modelforge.data.formats.sniff import MAX_ROW_BYTES, Row
from modelforge.errors import DataError, Problem

ROWS = [{"input": "eins", "output": "one"}, {"input": "zwei, “drei”", "output": "two\nthree"}]
LINES = "\n".join(json.dumps(row) for row in ROWS)


PACK = {
    "gz": gzip.compress,
    "zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


def rows_of(path: Path) -> list[dict[str, object]]:
    return [row.data for row in read_rows(path)]


def put(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> Problem:
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    (problem,) = caught.value.problems
    assert problem.what.endswith(".")
    assert problem.remedy.endswith(".")
    return problem


GOOD = {
    "lines.jsonl": LINES,
    "lines-named.json": LINES,
    "array.json": json.dumps(ROWS),
    "array-pretty.json": json.dumps(ROWS, indent=2),
    "array-named.jsonl": json.dumps(ROWS),
    "wrapped.json": json.dumps({"version": 1, "about": {"by": ["me"]}, "data": ROWS}),
    "wrapped-pretty.json": json.dumps({"tags": ["a"], "data": ROWS}, indent=2),
    "objects-in-a-row.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "table.csv": 'input,output\neins,one\n"zwei, “drei”","two\nthree"\n',
    "semicolons.csv": 'input;output\neins;one\n"zwei, “drei”";"two\nthree"\n',
    "table.tsv": 'input\toutput\neins\tone\nzwei, “drei”\t"two\nthree"\n',
    "commas-named.tsv": 'input,output\neins,one\n"zwei, “drei”","two\nthree"\n',
    "table.txt": 'input,output\neins,one\n"zwei, “drei”","two\nthree"\n',
    "lines-named.csv": LINES,
    "mixed-line-ends.jsonl": LINES.replace("\n", "\r\n") + "\n\n  \n",
}


@pytest.mark.parametrize("name", GOOD)
def test_the_same_rows_come_out_of_every_format(tmp_path: Path, name: str) -> None:
    assert rows_of(put(tmp_path, name, GOOD[name])) == ROWS


@pytest.mark.parametrize("name", [name for name in GOOD if "mixed" not in name])
@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    ],
    ids=["utf-8 with mark", "utf-16-le", "utf-16-be", "utf-16-le without mark", "utf-32"],
)
def test_the_encoding_is_recognised(tmp_path: Path, name: str, encoded: object) -> None:
    assert rows_of(put(tmp_path, name, encoded(GOOD[name]))) == ROWS  # type: ignore[operator]


def test_parquet_rows_come_out_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert list(read_rows(path)) == [Row(1, ROWS[0]), Row(2, ROWS[1])]


def test_every_row_has_the_line_where_it_begins(tmp_path: Path) -> None:
    pretty = put(tmp_path, "a.json", json.dumps(ROWS, indent=2))
    assert [row.line for row in read_rows(pretty)] == [2, 6]
    table = put(tmp_path, "a.csv", 'input,output\n"a\nb",c\n\nd,e\n')
    assert [row.line for row in read_rows(table)] == [2, 5]


def test_rows_longer_than_a_piece_are_read_whole(tmp_path: Path) -> None:
    long = [{"input": 'q "quoted" \\ }]' * 50_000, "output": "a"}] * 3
    assert rows_of(put(tmp_path, "long.json", json.dumps(long))) == long


def test_a_formula_in_a_cell_stays_text(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'input,output\n"=HYPERLINK(""http://x"")",@SUM(1)\n')
    assert rows_of(path) == [{"input": '=HYPERLINK("http://x")', "output": "@SUM(1)"}]


def test_the_broken_line_among_many_is_named_with_its_column(tmp_path: Path) -> None:
    lines = [json.dumps({"input": "a", "output": "b"})] * 10_000
    lines[16] = '{"input": "a", \'output\': "b"}'
    problem = refusal(put(tmp_path, "faq.jsonl", "\n".join(lines)))
    assert problem.where == "faq.jsonl, line 17, column 16"
    assert problem.remedy == "Use double quotes around names and texts."


BAD_JSON = {
    "trailing comma": ('{"a": 1,}', "line 1, column 8", "Remove the comma"),
    "truncated": ('{"a": 1}\n{"a": "x', "line 2, column", "incomplete"),
    "not a number": ('{"a": NaN}', "line 1, column 7", "null"),
    "python": ('{"a": None}', "line 1, column 7", "null"),
    "list in a line": ('{"a": 1}\n["a"]', "line 2, column 1", "Write each row as"),
    "null": ("null", "line 1, column 1", '{"input"'),
    "control character": ('{"a": "x\x01y"}', "line 1, column 9", "\\n"),
    "lone surrogate": ('{"a": "\\ud800"}', "line 1, column", "incomplete character"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_a_bad_line_of_json_is_reported_with_place_and_remedy(tmp_path: Path, case: str) -> None:
    text, where, remedy = BAD_JSON[case]
    problem = refusal(put(tmp_path, "bad.jsonl", text))
    assert where in problem.where
    assert remedy in problem.remedy


BAD_LISTS = {
    "texts": ('["a", "b"]', "line 1, column 2", "a text"),
    "lists": ('[["a"]]', "line 1, column 2", "a list"),
    "numbers": ("[1]", "line 1, column 2", "a number"),
    "no comma": ('[{"a": 1}\n{"a": 2}]', "line 2, column 1", "comma"),
    "comma at the end": ('[{"a": 1},\n]', "line 2, column 1", "comma before the end"),
    "never closed": ('[{"a": 1},\n{"a": 2}', "line 2", "ends before"),
    "cut inside a row": ('[{"a": 1},\n{"a": "b', "line 2", ""),
    "open quote": ('[{"a": 1},\n {"a": "b},\n {"a": "c"}]', "line 2", "not valid JSON"),
    "one object": ('{"name": "x",\n "count": 3}\n', "", ""),
}


@pytest.mark.parametrize("case", [case for case in BAD_LISTS if case != "one object"])
def test_a_bad_list_of_rows_is_reported_with_its_place(tmp_path: Path, case: str) -> None:
    text, where, what = BAD_LISTS[case]
    problem = refusal(put(tmp_path, "bad.json", text))
    assert where in problem.where
    assert what in problem.what


def test_an_object_spread_over_lines_is_one_row(tmp_path: Path) -> None:
    assert rows_of(put(tmp_path, "one.json", BAD_LISTS["one object"][0])) == [
        {"name": "x", "count": 3}
    ]


@pytest.mark.parametrize("name", ["latin.jsonl", "latin.json", "latin.csv", "latin.txt"])
def test_latin_1_is_detected_and_read(tmp_path: Path, name: str) -> None:
    texts = {
        "latin.jsonl": '{"text": "café"}\n{"text": "naïve"}\n',
        "latin.json": '[{"text": "café"}, {"text": "naïve"}]',
        "latin.csv": "text\ncafé\nnaïve\n",
        "latin.txt": "café\nnaïve",
    }
    path = put(tmp_path, name, texts[name].encode("latin-1"))
    assert rows_of(path) == [{"text": "café"}, {"text": "naïve"}]


def test_an_invalid_byte_in_a_utf_8_file_is_reported(tmp_path: Path) -> None:
    lines = '{"a": "größer, weiter, höher"}\n' * 9
    path = put(tmp_path, "a.jsonl", lines.encode() + b'{"a": "caf\xe9"}\n')
    problem = refusal(path)
    assert "0xE9" in problem.what
    assert problem.where == "a.jsonl, line 10, column 11"
    assert "UTF-8" in problem.remedy
    table = put(tmp_path, "a.csv", "a,b\n1,größer höher\n".encode() + b'"caf\xe9",2\n')
    assert refusal(table).where == "a.csv, line 3, column 5"


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith("mixed")])
@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_compressed_files_are_read_as_their_content(
    tmp_path: Path, name: str, packing: str
) -> None:
    path = tmp_path / f"{name}.{packing}"
    path.write_bytes(PACK[packing](GOOD[name].encode()))
    assert rows_of(path) == ROWS
    renamed = tmp_path / name
    renamed.write_bytes(PACK[packing](GOOD[name].encode()))
    assert rows_of(renamed) == ROWS


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_truncated_compressed_file_is_refused(tmp_path: Path, packing: str) -> None:
    content = PACK[packing](random.Random(1).randbytes(200_000).hex().encode())
    path = put(tmp_path, f"a.txt.{packing}", content[: len(content) // 2])
    assert "damaged or incomplete" in refusal(path).what


@pytest.mark.parametrize("kind", ["file.arrow", "stream.arrow", "table.feather"])
def test_arrow_and_feather_rows_come_out_with_their_numbers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    table = pa.Table.from_pylist(ROWS)
    if kind == "table.feather":
        feather.write_feather(table, str(path))
    else:
        opener = pa.ipc.new_file if kind.startswith("file") else pa.ipc.new_stream
        with opener(str(path), table.schema) as writer:
            writer.write_table(table)
    assert list(read_rows(path)) == [Row(1, ROWS[0]), Row(2, ROWS[1])]


def test_plain_text_is_split_at_blank_lines_or_else_at_lines(tmp_path: Path) -> None:
    parts = put(tmp_path, "a.txt", "\n\nOne, two\nthree.\n \nFour.\n")
    assert list(read_rows(parts)) == [
        Row(3, {"text": "One, two\nthree."}),
        Row(6, {"text": "Four."}),
    ]
    lines = put(tmp_path, "b.txt", "One, two\nthree.\n")
    assert rows_of(lines) == [{"text": "One, two"}, {"text": "three."}]


def test_markdown_is_split_before_headings_but_not_inside_code(tmp_path: Path) -> None:
    text = "Intro\n\n# One\na\n```\n# no heading\n```\n## Two\n\nb\n"
    assert list(read_rows(put(tmp_path, "a.md", text))) == [
        Row(1, {"text": "Intro"}),
        Row(3, {"text": "# One\na\n```\n# no heading\n```"}),
        Row(8, {"text": "## Two\n\nb"}),
    ]


def test_reading_continues_after_a_collected_error(tmp_path: Path) -> None:
    cases = {
        "a.jsonl": '{"a": 1}\n{"a": }\n[1]\n{"a": 2}',
        "a.json": '[{"a": 1}, {"a": NaN}, "x", {"a": 2}, ]',
        "a.csv": 'a,b\n1,1\n2\n"3,3\n2,2\n',
    }
    for name, text in cases.items():
        faults: list[ReadError] = []
        rows = list(read_rows(put(tmp_path, name, text), faults.append))
        assert [row.data["a"] for row in rows] in ([1, 2], ["1", "2"]), name
        assert len(faults) >= 2
        assert all(fault.code and fault.line for fault in faults)


BAD_TABLES = {
    "too many cells": ("a,b\n1,2\n1,2,3\n", "line 3", "has 3 cells; the header has 2."),
    "too few cells": ("a,b\n1\n", "line 2", "has 1 cell; the header has 2."),
    "open quote": ('a,b\n1,2\n"x,3\n4,5\n', "line 3", "never closed"),
    "text behind a quote": ('a,b\n"x"y,3\n', "line 2", "after a closing"),
    "doubled header": ("a,a\n1,2\n", "line 1", "two columns"),
    "nameless column": ("a,\n1,2\n", "line 1", "no name for column 2"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_reported_with_its_place(tmp_path: Path, case: str) -> None:
    text, where, what = BAD_TABLES[case]
    problem = refusal(put(tmp_path, "bad.csv", text))
    assert where in problem.where
    assert what in problem.what


STRANGE = {
    "empty.jsonl": (b"", "empty"),
    "blank.jsonl": (b" \n\n\t\n", "only blank lines"),
    "mark-only.csv": (codecs.BOM_UTF8, "empty"),
    "packed.parquet.gz": (gzip.compress(b"PAR1" + b"x" * 100), "compressed with gzip"),
    "book.csv": (b"PK\x03\x04xxxx", "office"),
    "paper.json": (b"%PDF-1.7", "PDF"),
    "zeros.jsonl": (b'{"a": "\x00"}\n\x00\x00', "zero byte"),
    "fake.parquet": (b"a,b\n1,2\n", "signature"),
    "cut.parquet": (b"PAR1" + b"x" * 100, "without its end"),
    "locked.parquet": (b"PARE" + b"x" * 100, "encrypted"),
    "notes.rtf": (b"{\\rtf1 Notes}\n"[1:], "is not JSON"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_file_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    content, what = STRANGE[name]
    assert what in refusal(put(tmp_path, name, content)).what


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_damaged_file_is_read_or_refused_without_a_crash(tmp_path: Path, kind: str) -> None:
    whole = tmp_path / f"whole.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS * 5), whole)
    else:
        put(
            tmp_path,
            whole.name,
            GOOD[{"jsonl": "lines", "json": "array", "csv": "table"}[kind] + f".{kind}"],
        )
    draw = random.Random(5)
    refused: list[Problem] = []
    for _ in range(120):
        content = bytearray(whole.read_bytes())
        at = draw.randrange(len(content))
        content[at : at + draw.randint(0, 5)] = draw.randbytes(draw.randint(0, 3))
        try:
            list(read_rows(put(tmp_path, f"hurt.{kind}", bytes(content))))
        except DataError as error:
            refused += error.problems
    assert len(refused) > 20
    assert all(problem.what.endswith(".") and problem.remedy for problem in refused)


def test_a_row_of_very_many_columns_is_read(tmp_path: Path) -> None:
    row = {f"column {n}": n for n in range(100_000)}
    assert rows_of(put(tmp_path, "wide.jsonl", json.dumps(row))) == [row]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist at" in refusal(tmp_path / "none.jsonl").what
    assert refusal(tmp_path).what.startswith("cannot be opened")


def test_a_row_beyond_the_limit_is_refused_with_the_limit(tmp_path: Path) -> None:
    huge = '{"a": "' + "x" * MAX_ROW_BYTES + '"}'
    assert "16 MiB" in refusal(put(tmp_path, "huge.jsonl", huge)).what
    assert "16 MiB" in refusal(put(tmp_path, "huge.json", f"[{huge}]")).what
