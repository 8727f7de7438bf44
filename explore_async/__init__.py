"""explore_async: instruction data that covers a domain, explored by a language model as a tree of tasks.

    import explore_async as ea

    settings = ea.load("plants.yaml", endpoint="http://localhost:8000/v1")
    result = ea.run_sync(settings, "runs/plants")

docs/python.md describes every name. A name is imported at its first use, so that `import explore_async` costs nothing.
"""

__version__ = "0.1.0"


def _places() -> dict[str, tuple[str, str]]:
    """The module of each public name and the name there, from the stub that type checkers read."""
    import ast
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    places: dict[str, tuple[str, str]] = {}
    private: dict[str, tuple[str, str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                (places if alias.asname else private)[alias.name] = (str(node.module), alias.name)
        elif isinstance(node, ast.Assign):  # ours = theirs: a type checker takes no other name for a public one
            places[ast.unparse(node.targets[0])] = private[ast.unparse(node.value)]
    return places


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(["__version__", *_places()])
    if name.startswith("_") or name not in (places := _places()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = places[name]
    value: object = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_places()})
