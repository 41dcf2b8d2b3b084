"""Mutation testing of the packages where a wrong sign would cost the most, with cosmic-ray.

Not part of the test suite. Install cosmic-ray next to the environment, not into it:

    python -m pip install --target build/cosmic-ray cosmic-ray==8.7.0
    PYTHONPATH=build/cosmic-ray python scripts/mutate.py [PACKAGE ...] [--sample 40] [--seed 14]

A random sample of the mutants of each package is applied, one at a time, in a copy of the checkout.
A mutant that no test of the package notices has survived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import TestOutcome

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "mutation.json"


@dataclass(frozen=True)
class Package:
    """Modules that are mutated, and the tests that should notice, the fastest ones first."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PACKAGES = {
    "config/rules": Package(("modelforge/config/rules",), ("tests/config",)),
    "config/plan": Package(("modelforge/config/plan",), ("tests/config",)),
    "modeling/tokenize": Package(("modelforge/modeling/tokenize",), ("tests/modeling/tokenize",)),
    "diagnosis": Package(
        ("modelforge/diagnosis/verdict.py", "modelforge/diagnosis/trend.py"),
        ("tests/diagnosis/test_verdict.py", "tests/diagnosis/test_trend.py"),
    ),
    "runs/progress/eta": Package(
        ("modelforge/runs/progress/eta.py",), ("tests/runs/progress/test_eta.py",)
    ),
    "security": Package(("modelforge/security",), ("tests/security", "tests/attacks")),
}
# One replacement for each operator: most others of cosmic-ray fail at once, or change nothing. `|`
# is left out, because it mostly stands in annotations, which are never evaluated.
REPLACEMENTS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE"
    r"|GtE_Gt|GtE_Lt|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_Delete_(USub|Not)|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue"
    r"|ReplaceAndWithOr|ReplaceOrWithAnd|ReplaceBreakWithContinue|ReplaceContinueWithBreak"
    r"|NumberReplacer|ZeroIterationForLoop|ExceptionReplacer)"
)
LEAST_TIMEOUT_S, TIMEOUT_FACTOR = 60.0, 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants of each named package and write what survived to build/mutation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument("--sample", type=int, default=40, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=14, help="seed of the sample")
    options = parser.parse_args(arguments)
    if unknown := set(options.packages) - set(PACKAGES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; one of {', '.join(PACKAGES)}")
    home = os.environ.get("MODELFORGE_HOME") or str(ROOT / ".venv" / "home")
    os.environ |= {"MODELFORGE_HOME": home, "MODELFORGE_TEST_ALL": "1", "OMP_NUM_THREADS": "1"}
    # The tests shall import from the copy, and see nothing of cosmic-ray.
    os.environ["PYTHONPATH"] = ""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="modelforge-mutation-") as folder:
        _copy_checkout(Path(folder))
        os.chdir(folder)
        for name in options.packages or PACKAGES:
            results[name] = _run(name, PACKAGES[name], options.sample, options.seed)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


def _copy_checkout(folder: Path) -> None:
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _run(name: str, package: Package, sample: int, seed: int) -> dict[str, Any]:
    """Run a sample of the mutants of a package, print each survivor, and return the result."""
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {' '.join(package.tests)}"
    began = time.monotonic()
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    timeout = max(LEAST_TIMEOUT_S, TIMEOUT_FACTOR * (time.monotonic() - began))
    mutants = list(_mutants(package))
    chosen = random.Random(seed).sample(mutants, min(sample, len(mutants)))
    outcomes: Counter[str] = Counter()
    survivors: list[str] = []
    for number, mutant in enumerate(chosen, 1):
        result = mutate_and_test([mutant], command, timeout)
        outcomes[str(result.test_outcome.value if result.test_outcome else "none")] += 1
        if result.test_outcome == TestOutcome.SURVIVED:
            survivors.append(result.diff or "")
            print(f"SURVIVED {mutant.operator_name}\n{result.diff}", flush=True)
        print(f"{name}: {number} of {len(chosen)}, {len(survivors)} survived", flush=True)
    return {
        "seed": seed, "mutants": len(mutants), "sample": len(chosen),
        "outcomes": outcomes, "survivors": survivors,
    }  # fmt: skip


def _mutants(package: Package) -> Iterator[Any]:
    """Yield the mutations of a package, one at each place."""
    for root in package.modules:
        for module in sorted(Path(root).rglob("*.py")) if Path(root).is_dir() else [Path(root)]:
            at_place: dict[Any, list[Any]] = defaultdict(list)
            for item in _all_work_items([module], {}):
                (mutation,) = item.mutations
                where = (mutation.start_pos, mutation.end_pos)
                if not REPLACEMENTS.fullmatch(mutation.operator_name):
                    continue
                at_place[where].append(mutation)
            for place in sorted(at_place):
                yield random.Random(f"{module} {place}").choice(at_place[place])


if __name__ == "__main__":
    raise SystemExit(main())
