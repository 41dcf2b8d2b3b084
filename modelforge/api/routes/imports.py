"""Route that reads the settings of another system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from modelforge.api.dependencies import error
from modelforge.api.errors import ForgeRoute
from modelforge.config.importers.read import SYSTEMS, import_settings
from modelforge.config.importers.report import Imported
from modelforge.config.recipe import MAX_BYTES

router = APIRouter(route_class=ForgeRoute)
UNREADABLE = error(422, "The file cannot be read, or contradicts itself; nothing is taken.")


@dataclass(frozen=True)
class ForeignSettings:
    """A file or a command line of another system."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=MAX_BYTES, description="The file or command line.")]
    name: Annotated[str, Field(max_length=200, description="Shown in messages.")] = "the file"
    dataset_info: Annotated[
        str, Field(max_length=MAX_BYTES, description="LLaMA-Factory's `dataset_info.json`.")
    ] = ""
    system: Annotated[
        str | None, Field(max_length=40, description="Its system; null to recognise it.")
    ] = None


@dataclass(frozen=True)
class KnownSystem:
    """A system whose files can be imported."""

    name: Annotated[str, Field(description="As `system` of a request takes it.")]
    title: Annotated[str, Field(description="As the system writes itself.")]


@router.get("/import/systems")
def list_systems() -> list[KnownSystem]:
    """Return the systems whose files can be imported."""
    return [KnownSystem(system.name, system.title) for system in SYSTEMS]


@router.post("/import", responses=UNREADABLE)
def import_foreign(file: ForeignSettings) -> Imported:
    """Return our settings and a line for each option of the file; nothing is stored."""
    found = import_settings(file.text, file.name, file.system, dataset_info=file.dataset_info)
    return found.imported
