import time
import tracemalloc
from pathlib import Path

import pytest

from modelforge.data.checks.findings import DataFinding
from modelforge.data.checks.run import CheckResult, check_file
from modelforge.data.checks.summary import summarize
from modelforge.data.repair.copy import repair_file
from modelforge.errors import DataError
from modelforge.paths import Home
from tests.data.checks.broken_files import CASES, Case

REPAIRED = [case for case in CASES if case.repaired]
IDS = [f"{case.number} {case.kind} {case.title}" for case in CASES]


def examined(tmp_path: Path, case: Case) -> tuple[Path, CheckResult, float]:
    folder = tmp_path / str(case.number)
    folder.mkdir()
    path = folder / case.file
    case.make(path)
    held = check_file(path).fingerprints if case.options.get("validation") else ()
    began = time.perf_counter()
    diagnosis = check_file(path, max_chars=case.options.get("longest"), eval_fingerprints=held)
    return path, diagnosis, time.perf_counter() - began


def found_in(diagnosis: CheckResult, case: Case) -> DataFinding:
    found = [each for each in diagnosis.findings if each.code == case.code]
    assert found, f"said instead: {[each.code for each in diagnosis.findings]}"
    return found[0]


def test_the_catalogue_is_complete() -> None:
    kinds = [case.kind for case in CASES]
    assert len(CASES) == 60
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == [18, 6, 10, 6, 14, 6]
    assert len({case.code for case in CASES}) == 60
    assert len(REPAIRED) >= 20


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_each_broken_file_gets_its_own_cause_with_its_place_and_a_remedy(
    tmp_path: Path, case: Case
) -> None:
    _, diagnosis, seconds = examined(tmp_path, case)
    found = found_in(diagnosis, case)
    assert found.level == case.level
    assert found.what.endswith(".")
    assert found.remedy.endswith(".")
    assert found.count >= 1
    if case.line is not None and found.places:
        line, column = found.places[0]
        assert line == case.line
        if case.column is not None:
            assert column == case.column
    assert bool(found.places) or case.kind == "Parquet" or case.title == "1 row"
    assert seconds < 10


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_only_files_with_a_blocker_are_refused_for_training(tmp_path: Path, case: Case) -> None:
    path, diagnosis, _ = examined(tmp_path, case)
    if diagnosis.blocked and case.code != "all-answers-truncated":
        with pytest.raises(DataError) as caught:
            summarize(path)
        assert all(problem.what.endswith(".") for problem in caught.value.problems)
    else:
        assert summarize(path).rows >= 1


@pytest.mark.parametrize("case", REPAIRED, ids=[IDS[case.number - 1] for case in REPAIRED])
def test_one_click_repairs_the_file_into_a_copy_that_can_be_trained_on(
    tmp_path: Path, case: Case
) -> None:
    path, before, _ = examined(tmp_path, case)
    original = path.read_bytes()
    home = Home(tmp_path / "home")
    done = repair_file(path, home)
    assert path.read_bytes() == original
    assert done.path.parent == home.uploads
    assert done.changes.get(case.code, 0) >= 1
    after = check_file(done.path)
    assert not after.blocked
    assert case.code not in {each.code for each in after.findings}
    assert summarize(done.path).rows == done.rows >= 2
    assert set(home.uploads.iterdir()) == {done.path, done.report}
    assert before.stats.rows <= done.rows + 2


def test_memory_stays_bounded_over_the_whole_catalogue(tmp_path: Path) -> None:
    tracemalloc.start()
    for case in CASES:
        if case.title != "50 MB single line":
            examined(tmp_path, case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2**20


def test_print_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for case in CASES:
        path, diagnosis, seconds = examined(tmp_path, case)
        found = found_in(diagnosis, case)
        size = path.stat().st_size
        place = ", ".join(str(part) for part in (found.places or [("-",)])[0] if part is not None)
        trains = "no" if diagnosis.blocked else "yes"
        repaired = "yes" if case.repaired else ""
        lines.append(
            f"{case.number:>2}  {case.kind:<10} {case.title:<31} {found.code:<21} {place:<18}"
            f"{trains:<7}{repaired:<9}{seconds * 1000:>7.0f} ms  {size:>11,} B"
        )
    head = (
        f"\n No {'kind':<10} {'file':<31} {'cause':<21} {'line, column':<18}"
        f"{'trains':<7}{'repaired':<9}"
    )
    with capsys.disabled():
        print("\n".join([head, *lines, f"{len(lines)} of 60 named; {len(REPAIRED)} repaired."]))
    assert len(lines) == 60
