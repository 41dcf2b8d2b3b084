"""The body of every error response."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from modelforge.errors import Finding, Problem


def about(text: str) -> Any:
    """Return a required field with a description."""
    return Field(description=text)


class Problems(BaseModel):
    """An error response. It lists all problems at once."""

    problems: list[Problem] = about("One entry per problem; `where` names the setting or part.")
    holder: str | None = Field(
        None,
        description="With 409: what uses the machine: a run's id, `chat`, `export` or `trial-run`.",
    )
    findings: list[Finding] = Field([], description="With 422 after preflight: all findings.")
