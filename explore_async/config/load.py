"""Settings from YAML. Errors name the file, the key and the fault; for a misspelled key they suggest another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from explore_async.config import yaml_text
from explore_async.config.given import Given, as_list
from explore_async.errors import ConfigError
from explore_async.exploration.kinds import ALPACA, GENERATE, GENERATE_INSTRUCTIONS, KINDS
from explore_async.settings.comparison import ComparisonSettings
from explore_async.settings.local_paths import local_text, path_in
from explore_async.settings.operation import ServerSettings
from explore_async.settings.recipe import Filters
from explore_async.settings.revision import UNFILTERED, MadeBy, RevisionSettings
from explore_async.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from explore_async.config.faults import Fault

_Model = TypeVar("_Model", bound=BaseModel)
TEMPLATE = "template"
"""The preset that `init` prints, which is no preset for a run."""


def presets() -> dict[str, Path]:
    """The packaged configs by name."""
    packaged = Path(str(files("explore_async"))) / "configs"
    folder = packaged if packaged.is_dir() else packaged.parent.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(
    config: str | Path,
    overrides: str | Sequence[str] = (),
    *,
    endpoint: str | Sequence[str] | None = None,
    concurrency: int | None = None,
    **changes: Any,
) -> RunSettings:
    """The settings of a config file or preset, with `a.b=value` overrides and then all other arguments on top.

    `endpoint`: one URL or several; they replace the endpoints, the endpoints file and the server of the config.
    `concurrency`: the most requests in flight at each endpoint. `changes` are nested like the file (model="m",
    targets={"examples": 100}); None in them means "not given". Raises ConfigError with the file, the key and the fault.
    """
    path = _find(str(config))
    document = _read(path)
    given = _lay_over(document, overrides, endpoint, concurrency, changes)
    _read_prompts(document, path.parent, given, tuple(KINDS))
    _place_known(document, path.parent)
    return _checked(RunSettings, document, given, str(path))


def load_revision(
    made_by: MadeBy,
    recipe: Mapping[str, Any],
    overrides: str | Sequence[str] = (),
    *,
    endpoint: str | Sequence[str] | None = None,
    concurrency: int | None = None,
    unfiltered: bool = False,
    alpaca: bool = False,
    **changes: Any,
) -> RevisionSettings:
    """The settings by which examples are revised; the arguments are those of `load`. What `recipe`, that of the run
    which made the examples, says of the language, the filters and the judge's aspects holds where nothing else is said.
    `unfiltered`: no filter of outputs is on, but for those that `overrides` turn on.
    `alpaca`: answers are asked for by Alpaca's template, without a chat template.
    """
    document: dict[str, Any] = {"made_by": made_by}
    if language := recipe.get("language"):
        document["language"] = language
    filters = recipe.get("filters") or {}
    document["filters"] = {name: filters[name] for name in Filters.model_fields if name in filters}
    if unfiltered:
        document["filters"] = dict(UNFILTERED)
    judges = made_by == "rate" or changes.get("judge") is not None
    if judges or any(override.startswith("judge.") for override in as_list(overrides)):
        aspects = (recipe.get("judge") or {}).get("aspects")
        document["judge"] = {"threshold": None, **({"aspects": dict(aspects)} if aspects else {})}
    given = _lay_over(document, overrides, endpoint, concurrency, changes)
    _read_prompts(document, Path(), given, ("answer", "judge"))
    if alpaca:
        document["prompts"] = {**(document.get("prompts") or {}), "answer": ALPACA.read_text(encoding="utf-8")}
    return _checked(RevisionSettings, document, given, "the settings")


def load_comparison(
    overrides: str | Sequence[str] = (),
    *,
    endpoint: str | Sequence[str] | None = None,
    concurrency: int | None = None,
    **changes: Any,
) -> ComparisonSettings:
    """The settings by which answers are compared; the arguments are those of `load`."""
    document: dict[str, Any] = {}
    given = _lay_over(document, overrides, endpoint, concurrency, changes)
    return _checked(ComparisonSettings, document, given, "the settings")


def _lay_over(
    document: dict[str, Any],
    overrides: str | Sequence[str],
    endpoint: str | Sequence[str] | None,
    concurrency: int | None,
    changes: Mapping[str, Any],
) -> Given:
    """Lays the arguments of `load` over a document."""
    for override in as_list(overrides):
        _override(document, override)
    _merge(document, changes)
    urls = as_list(endpoint or ())
    _place_endpoints(document, urls, concurrency)
    return Given.of(as_list(overrides), changes, urls=bool(urls), concurrency=concurrency is not None)


def _checked(model: type[_Model], document: dict[str, Any], given: Given, where: str) -> _Model:
    """The document as settings. Raises ConfigError; `where`: the place of what no option has given."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        from explore_async.config.faults import faults_of  # a run loads few modules before its first request

        of_file, others = list[str](), list[str]()
        for found in faults_of(error, model):
            complaint, option = _complaint(found, given)
            (others if option else of_file).append(complaint)
        lines = [f"{where}:", *(f"  {complaint}" for complaint in of_file)] if of_file else []
        raise ConfigError("\n".join([*lines, *others])) from error


def server(document: dict[str, Any]) -> ServerSettings:
    """The settings of a server that the command line starts. Raises ConfigError."""
    try:
        return ServerSettings.model_validate(document)
    except ValidationError as error:
        from explore_async.config.faults import faults_of

        complaints = [_complaint(found, Given())[0] for found in faults_of(error, ServerSettings)]
        raise ConfigError("; ".join(complaints)) from error


def _find(config: str) -> Path:
    path = Path(local_text(config))
    if path.is_file() or (path.is_fifo() and path.is_relative_to("/dev")):  # /dev/stdin, <(...)
        return path
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{config}: a config is a regular file, or /dev/stdin")
    known = presets()
    if config in known:
        return known[config]
    names = [name for name in known if name != TEMPLATE]
    from explore_async.config.faults import suggestion

    hint = suggestion(config, names)
    raise ConfigError(f"{config}: no such file or preset{hint}; the presets are {', '.join(names)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml_text.load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml_text.NO_YAML as error:
        fault = str(error).replace('in "<unicode string>", ', "at ")  # PyYAML's name for a text without a file
        raise ConfigError(f"{path}: not valid YAML: {fault}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if document is None:
        raise ConfigError(f"{path}: the file is empty; `explore-async init` prints a config to begin with")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a mapping of settings is expected at the top, not a {type(document).__name__}")
    return document


def assignments(overrides: Sequence[str]) -> dict[str, Any]:
    """`name=value` pairs as a mapping, the values read as YAML. Raises ConfigError."""
    document: dict[str, Any] = {}
    for override in overrides:
        _override(document, override)
    return document


def _override(document: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {override}: write it as name=value, for example --set generation.per_request=5")
    try:
        value = yaml_text.load(text)
    except yaml_text.NO_YAML as error:
        raise ConfigError(
            f"--set {name}: the value is not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from error
    target: Any = document
    *above, last = name.strip().split(".")
    for step in above:
        target = _below(target, step, name)
    if isinstance(target, list):
        target[_position(target, last, name)] = value
    else:
        target[last] = value


def _below(target: Any, step: str, name: str) -> Any:
    where: Any = _position(target, step, name) if isinstance(target, list) else step
    below = target[where] if isinstance(target, list) else target.get(where)
    if below is None:
        below = target[where] = {}
    if not isinstance(below, dict | list):
        raise ConfigError(f"--set {name}: {step} holds a value, not settings")
    return below


def _position(target: list[Any], step: str, name: str) -> int:
    if not step.isdecimal() or int(step) >= len(target):
        raise ConfigError(f"--set {name}: {step} is not a position in a list of {len(target)}")
    return int(step)


def _merge(document: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, Mapping):
            below = document.get(name)
            if any(leaf is not None for leaf in value.values()):
                if not isinstance(below, dict):
                    below = document[name] = {}
                _merge(below, value)
        elif value is not None:
            document[name] = value


def _place_endpoints(document: dict[str, Any], urls: Sequence[str], concurrency: int | None) -> None:
    """Puts the URLs in place of everything that the config asks or starts, and the concurrency into each endpoint."""
    if not urls and concurrency is None:
        return
    operation = document.get("operation")
    if not isinstance(operation, dict):
        operation = document["operation"] = {}
    if urls:
        operation["endpoints"] = list(urls)
        for name in ("server", "endpoints_file"):
            operation.pop(name, None)
    if concurrency is None:
        return
    endpoints = operation.get("endpoints")
    if not isinstance(endpoints, list) or not endpoints:
        raise ConfigError(
            "--concurrency needs --endpoint, or endpoints in the config; an endpoints_file has a concurrency of its own"
        )
    operation["endpoints"] = [
        {**({"url": listed} if isinstance(listed, str) else listed), "concurrency": concurrency}
        if isinstance(listed, str | dict)
        else listed
        for listed in endpoints
    ]


def _read_prompts(document: dict[str, Any], beside: Path, given: Given, kinds: Sequence[str]) -> None:
    """`prompts:` names a folder. Its templates become part of the recipe."""
    folder = document.get("prompts")
    if not isinstance(folder, str):
        return
    where, _ = given.place(("prompts",))
    try:
        path = beside / local_text(folder)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    own, other = GENERATE, GENERATE_INSTRUCTIONS
    if document.get("responses") == "separate":
        own, other = other, own
    known = {name: path / (own if name == own.name else KINDS[name]).template.name for name in kinds}
    try:
        if own.name in known and (path / other.template.name).is_file() and not known[own.name].is_file():
            raise ConfigError(
                f"{where}: {path / other.template.name} is not for this run: by its setting `responses`, it takes "
                f"{own.template.name}, which `init --prompts` writes into another folder"
            )
        document["prompts"] = {kind: file.read_text(encoding="utf-8") for kind, file in known.items() if file.is_file()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path}: {error}") from error
    if not document["prompts"]:
        names = ", ".join(file.name for file in known.values())
        raise ConfigError(f"{where}: {path} contains none of {names}")


def _place_known(document: dict[str, Any], beside: Path) -> None:
    """Paths under `against:` and `files:` of domains are relative to the folder of the config."""
    _place(document.get("against"), beside)
    domains = document.get("domains")
    for domain in domains if isinstance(domains, list) else ():
        if isinstance(domain, dict):
            _place(domain.get("files"), beside)


def _place(listed: Any, beside: Path) -> None:
    if not isinstance(listed, list):
        return
    for position, named in enumerate(listed):
        if isinstance(named, str):
            listed[position] = _beside(named, beside)
        elif isinstance(named, dict) and isinstance(named.get("path"), str):
            listed[position] = {**named, "path": _beside(named["path"], beside)}


def _beside(path: str, folder: Path) -> str:
    """The path, relative to the folder; a URL elsewhere as it is, for the settings to refuse."""
    local = path_in(path)
    return path if local is None else str(folder / local)


def _complaint(found: Fault, given: Given) -> tuple[str, bool]:
    """The fault in words with its place, and True where it comes from an option."""
    where, is_option = given.place(found.place)
    return f"{where}: {found.text}", is_option
