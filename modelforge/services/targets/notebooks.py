"""Write a recipe as a notebook for Colab or Kaggle; nothing is stored in the home."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer, flatten, nest
from modelforge.config.rules.data import HUB_PREFIX, hub_name
from modelforge.config.schema.data import Source
from modelforge.data.sources.library import SAMPLE_PREFIX
from modelforge.data.sources.load import LoadedSource
from modelforge.launchers.notebook import Notebook, NotebookContent, make_notebook
from modelforge.launchers.paths_there import replace_strings
from modelforge.launchers.wheel import build_code
from modelforge.models.architecture import ModelInfo
from modelforge.models.resolve import STARTER
from modelforge.paths import Home, expand_user
from modelforge.services.preflight import PreflightService
from modelforge.units import human_bytes

# Settings that are needed, also where they are defaults.
NEEDED = ("task", "strategy", "model_name", "dataset", "data.sources", "data.validation_sources")
# Settings that name files which a run writes on this computer.
WRITTEN = ("logging.log_file", "logging.repo")


class NotebookService:
    """Make notebooks. Thread-safe."""

    def __init__(self, home: Home, preflight: PreflightService) -> None:
        self._home = home
        self._preflight = preflight

    def make(self, layers: Sequence[Layer], own: Sequence[Layer], name: str = "") -> Notebook:
        """Return a notebook that trains these settings.

        Args:
            layers: All layers, from which model and data are found here.
            own: Those of the user. Everything else is planned where the notebook runs, for the
                hardware there.
            name: Name of the run.

        Raises ConfigError, NotFoundError or DataError with all problems; ConfigError also for more
        data than a notebook holds. That this computer cannot do the run is no reason.
        """
        resolved, plan, _report, data, facts = self._preflight.check(*layers).require()
        loaded = [*data.sources, *data.validation]
        given = flatten(resolved.config.explicit_values())
        values = {key: given[key] for key in NEEDED if key in given}
        for layer in own:
            values |= {key: given[key] for key in flatten(layer.values) if key in given}
        values = {key: value for key, value in values.items() if key not in WRITTEN}
        places = {source.source.path: _place(source) for source in loaded}
        if values["model_name"] != STARTER:
            places[str(values["model_name"])] = facts.path
        settings = replace_strings(nest(values), lambda text: _whole(places.get(text, text)))
        content = NotebookContent(
            settings=settings,
            files=_local_paths(settings),
            request_id=uuid.uuid4().hex,
            model=facts.name if facts.local or not plan.model_revision else _revision(plan),
            data=_data(loaded),
            name=name or resolved.config.logging.run_name or "",
            fetches=[_fetch(each.source) for each in loaded if _is_of_hub(each.source)],
            downloads=_downloads(facts, loaded),
            needs_starter=values["model_name"] == STARTER,
        )
        return make_notebook(content, build_code(self._home.cache / "code"))


def _revision(plan: Plan) -> str:
    return f"{plan.model_path} ({str(plan.model_revision)[:8]})"


def _is_of_hub(source: Source) -> bool:
    return source.path.startswith(HUB_PREFIX)


def _place(loaded: LoadedSource) -> str:
    """Return the name of a source where the notebook runs, or its path here if it goes along."""
    path = loaded.source.path
    if path.startswith(SAMPLE_PREFIX) or _is_of_hub(loaded.source):
        return path
    given = Path(path).expanduser()
    if given.is_dir():
        return str(given.resolve())
    return str(loaded.files[0]) if len(loaded.files) == 1 else str(loaded.files[0].parent)


def _whole(text: str) -> str:
    """Return the path that a value with `~` stands for; other values stay."""
    path = expand_user(text) if text.startswith("~") else Path(text)
    return str(path) if text.startswith("~") and _exists(str(path)) else text


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return False


def _local_paths(settings: Mapping[str, Any]) -> list[Path]:
    """Return the files and folders of this computer that the settings name."""
    found: dict[str, Path] = {}

    def look(text: str) -> str:
        if text.startswith("/") and _exists(text):
            found[text] = Path(text)
        return text

    replace_strings(settings, look)
    return list(found.values())


def _downloads(model: ModelInfo, loaded: Sequence[LoadedSource]) -> list[str]:
    """Return the names of what the notebook downloads from the Hub."""
    names = [each.source.path for each in loaded if _is_of_hub(each.source)]
    if model.name == STARTER or model.revision is not None:
        names.insert(0, model.name)
    return names


def _fetch(source: Source) -> list[str]:
    subset = ["--subset", source.subset] if source.subset else []
    split = ["--split", source.split] if source.split else []
    return ["data", "fetch", hub_name(source.path) or source.path, *subset, *split]


def _data(loaded: Sequence[LoadedSource]) -> str:
    parts = []
    for each in loaded:
        size = sum(file.stat().st_size for file in each.files)
        parts.append(f"{each.files[0].name}, {each.rows:,} rows, {human_bytes(size)}")
    return "; ".join(parts)
