"""Routes of targets: list, add, check and remove the places that train runs elsewhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelforge.api.dependencies import NO_RUN, ForgeDep, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import RunStatus
from modelforge.errors import ConfigError, Problem
from modelforge.services.targets.service import MAX_SLOTS, KnownTarget, TargetCheck

# A client that may start runs may not choose programs with them.
OF_TERMINAL = {"environment", "python", "ssh_config"}
router = APIRouter(route_class=ForgeRoute)
NO_TARGET = error(404, "There is no such target.")
IN_USE = error(409, "A run is at the target; `holder` names it.")
UNUSABLE = error(422, "The name, the address or an option cannot be used.")


class NewTarget(BaseModel):
    """A place that trains runs."""

    name: Annotated[str, Field(min_length=1, max_length=40, description="Its name.")]
    place: Annotated[
        str,
        Field(max_length=400, description="ssh:HOST[:PORT][/FOLDER] or slurm:PARTITION[/FOLDER]."),
    ]
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS, description="Runs at a time.")] = 1
    options: Annotated[
        dict[str, str], Field(max_length=20, description="Options of its kind; no secrets.")
    ] = {}


@router.get("/targets")
def targets(forge: ForgeDep) -> list[KnownTarget]:
    """List the places that train runs elsewhere."""
    return forge.targets.list()


@router.post("/targets", status_code=201, responses=UNUSABLE)
def add_target(new: NewTarget, forge: ForgeDep) -> KnownTarget:
    """Store a target. Nothing is contacted: check it before the first run.

    Options that name a program or a file of this computer are only taken at the terminal.
    """
    for name in OF_TERMINAL & new.options.keys():
        what = f"{name} names a program or a file."
        remedy = (
            f"Add the target at the terminal: modelforge targets add NAME PLACE --option {name}=…"
        )
        raise ConfigError(Problem("options", what, remedy))
    forge.targets.add(new.name, new.place, slots=new.slots, options=new.options)
    return forge.targets.get(new.name)


@router.post("/targets/{name}/check", responses=NO_TARGET)
def check_target(name: str, forge: ForgeDep) -> TargetCheck:
    """Reach a target, prepare its environment and read its hardware.

    The first check installs the packages there, which takes minutes.
    """
    return forge.targets.check(name)


@router.delete("/targets/{name}", status_code=204, responses={**NO_TARGET, **IN_USE})
def remove_target(name: str, forge: ForgeDep) -> None:
    """Forget a target. Runs that were there stay in the list."""
    forge.targets.remove(name)


@router.post(
    "/runs/{run_id}/fetch", responses={**NO_RUN, **error(422, "The run is not at a target.")}
)
def fetch(run_id: str, forge: ForgeDep) -> RunStatus:
    """Bring all files of a run at a target here, its checkpoints as well."""
    forge.targets.fetch(forge.runs.folder(run_id))
    return RunStatus(id=run_id, state=forge.runs.state(run_id))
