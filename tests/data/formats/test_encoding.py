"""The encoding of text files: detected by mark and content, guessed for legacy ones, or set."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from modelforge.config.resolve import Layer, resolve
from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import read_canonical
from modelforge.data.checks.run import check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_rows
from modelforge.data.formats.sniff import sniff_file
from modelforge.data.repair.copy import repair_file
from modelforge.data.sources.load import dataset_record, iterate_rows, load_sources
from modelforge.errors import ConfigError, DataError
from modelforge.paths import Home

LEGACY = {
    "cp932": [
        ("日本の首都はどこですか", "東京です。人口は一千万人を超えています。"),
        ("富士山の高さは", "三千七百七十六メートルです。"),
        ("カタカナの例", "コンピュータとソフトウェア"),
    ],
    "gb18030": [
        ("中国的首都是哪里", "北京是中国的首都。"),
        ("长城有多长", "大约两万公里，是世界上最长的城墙。"),
        ("今天天气怎么样", "今天天气很好，适合出去走走。"),
    ],
    "koi8_r": [
        ("Какая столица России?", "Москва является столицей России."),
        ("Сколько дней в неделе?", "В неделе семь дней."),
        ("Кто написал эту книгу?", "Эту книгу написал известный писатель."),
    ],
    "cp1251": [
        ("Какая столица России?", "Москва является столицей России."),
        ("Сколько дней в неделе?", "В неделе семь дней."),
        ("Кто написал эту книгу?", "Эту книгу написал известный писатель."),
    ],
    "cp1252": [
        ("Wo liegt München?", "München liegt in Bayern, südlich von Nürnberg."),
        ("Où est l’école?", "L’école est à côté de la forêt, près du château."),
        ("¿Dónde está España?", "España está en Europa, al oeste de Francia."),
    ],
    "cp1250": [
        ("Jaké je hlavní město?", "Praha je hlavním městem České republiky, největší město."),
        ("Kde teče řeka Vltava?", "Vltava teče přes Prahu a je nejdelší řekou."),
        ("Co je příští týden?", "Příští týden začínají školní prázdniny."),
    ],
    "cp1253": [
        ("Ποια είναι η πρωτεύουσα;", "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας."),
        ("Τι ώρα είναι;", "Είναι πέντε η ώρα το απόγευμα."),
        ("Πού είναι η θάλασσα;", "Η θάλασσα είναι κοντά στο σπίτι."),
    ],
}


def write_pairs(path: Path, encoding: str, pairs: list[tuple[str, str]], copies: int = 4) -> Path:
    lines = [f"{number} {prompt}\t{answer}" for number in range(copies) for prompt, answer in pairs]
    path.write_bytes("\n".join(["input\toutput", *lines, ""]).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", LEGACY)
def test_a_legacy_encoding_is_guessed_and_shown(tmp_path: Path, encoding: str) -> None:
    path = write_pairs(tmp_path / "a.tsv", encoding, LEGACY[encoding])
    summary = summarize(path)
    assert summary.encoding == encoding
    (finding,) = [each for each in summary.findings if each.code == "guessed-encoding"]
    assert finding.level == "note"
    assert encoding in finding.what
    assert "`encoding`" in finding.remedy
    assert [row.data["output"] for row in read_rows(path)][:3] == [
        answer for _, answer in LEGACY[encoding]
    ]
    checked = check_file(path)
    assert checked.encoding == checked.as_dict()["encoding"] == encoding
    assert [each.code for each in checked.findings] == ["guessed-encoding"]


@pytest.mark.parametrize("encoding", LEGACY)
def test_a_set_encoding_is_not_a_guess(tmp_path: Path, encoding: str) -> None:
    path = write_pairs(tmp_path / "a.tsv", encoding, LEGACY[encoding])
    summary = summarize(path, source=Source(path=str(path), encoding=encoding))
    assert "guessed-encoding" not in {finding.code for finding in summary.findings}
    assert [each.code for each in summary.findings] == ["other-encoding"]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
def test_unicode_is_detected_and_never_guessed(
    tmp_path: Path, encoding: str, expected: str
) -> None:
    path = write_pairs(tmp_path / "a.tsv", encoding, LEGACY["cp1252"])
    file = sniff_file(path)
    assert (file.encoding, file.is_encoding_guessed) == (expected, False)


def test_few_accents_are_read_as_windows_1252(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("input,output\ndrink,café\n".encode("cp1252"))
    assert sniff_file(path).encoding == "cp1252"
    assert next(iter(read_rows(path))).data["output"] == "café"


def test_a_compressed_file_is_guessed_from_its_content(tmp_path: Path) -> None:
    plain = write_pairs(tmp_path / "a.tsv", "koi8_r", LEGACY["koi8_r"])
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    summary = summarize(path)
    assert summary.encoding == "koi8_r"
    assert "line 2, column 3" in summary.findings[0].what


def test_a_wrong_guess_is_corrected_by_the_setting_up_to_the_worker(tmp_path: Path) -> None:
    # A short Turkish text whose bytes are as likely in the Western European code page.
    pairs = [("Ankara nerede?", "Ankara Türkiye'nin başkentidir.")]
    path = write_pairs(tmp_path / "a.tsv", "cp1254", pairs, copies=12)
    assert sniff_file(path).is_encoding_guessed
    rows = read_rows(path, options=ReadOptions(encoding="cp1252"))
    guessed = [row.data["output"] for row in rows]
    assert guessed[0] != pairs[0][1]
    source = Source(path=str(path), encoding="cp1254")
    (loaded,) = load_sources([source], Home(tmp_path / "home"))
    assert loaded.summary.encoding == "cp1254"
    rows = [row for _, row in iterate_rows(dataset_record([loaded]), seed=1)]
    assert rows[0]["messages"][1]["content"] == pairs[0][1]
    assert rows == list(read_canonical(path, loaded.mapping, ReadOptions(encoding="cp1254")))


def test_a_repaired_copy_is_written_from_the_set_encoding(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.tsv", "cp1254", [("Nerede?", "Başkent Ankara'dır.")], 12)
    source = Source(path=str(path), encoding="cp1254")
    repaired = repair_file(path, Home(tmp_path / "home"), source=source)
    assert "Başkent Ankara'dır." in repaired.path.read_text("utf-8")


def test_a_set_encoding_that_does_not_decode_the_file_is_refused(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.tsv", "cp1252", LEGACY["cp1252"])
    with pytest.raises(DataError) as caught:
        list(read_rows(path, options=ReadOptions(encoding="shift_jis")))
    (problem,) = caught.value.problems
    assert "SHIFT_JIS" in problem.what
    assert "encoding" in problem.remedy
    assert "bad-encoding" in {
        each.code for each in check_file(path, Source(path="x", encoding="shift_jis")).findings
    }


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "undefined", "cp\0"])
def test_an_encoding_that_python_cannot_decode_is_a_problem_of_the_setting(encoding: str) -> None:
    sources = [{"path": "a.csv", "encoding": encoding}]
    required = {"task": "text-generation", "model_name": "starter", "compute_specs": "low_end"}
    with pytest.raises(ConfigError) as caught:
        resolve(Layer("you", {**required, "dataset": "a.csv", "data.sources": sources}))
    assert "data.sources[0].encoding" in [problem.where for problem in caught.value.problems]


def test_a_character_cut_off_at_the_end_of_the_head_is_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("input,output\n" + "質問,答えは東京です\n" * 80_000).encode("cp932"))
    assert sniff_file(path).encoding == "cp932"
