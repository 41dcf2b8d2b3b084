"""Offer only repairs that were tried on the rows at hand, with their effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modelforge.config.schema.data import Source
from modelforge.data.checks.file import REWRITE
from modelforge.data.checks.findings import DataFinding
from modelforge.data.formats.sniff import DataFile
from modelforge.data.repair.copy import try_repair
from modelforge.data.repair.log import RepairLog
from modelforge.units import MIB

# Larger files would take too long to repair for a look; their repairs are offered untried.
_MAX_TRIED_BYTES = 8 * MIB


def tried_repairs(
    file: DataFile, source: Source | None, findings: Sequence[DataFinding]
) -> list[DataFinding]:
    """Return the findings with the effect of their repairs, without repairs that do nothing."""
    is_offered = any(finding.repair for finding in findings)
    if not is_offered or file.path.stat().st_size > _MAX_TRIED_BYTES:
        return list(findings)
    done = try_repair(file, source)
    return [_with_effect(finding, done) for finding in findings]


def _with_effect(finding: DataFinding, done: tuple[int, RepairLog] | None) -> DataFinding:
    if finding.repair is None or (finding.repair == REWRITE and done is not None):
        return finding
    changes = done[1].changes[finding.code] if done else 0
    if done is None or not changes:
        return replace(finding, repair=None)
    removes = done[1].removed[finding.code]
    return replace(finding, fixes=changes - removes, removes=removes)
