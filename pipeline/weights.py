"""The registry of weights: every file of numbers that a stage loads, its origin, licence and sha256.

One list, ``manifests/weights.toml``. A build resolves all weights of its plan before the first part; what is missing
stops it with the name, the expected file and what to do. Nothing falls back to a weaker model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

REGISTRY = Path(__file__).resolve().parent.parent / "manifests" / "weights.toml"


class WeightsError(RuntimeError):
    """Weights are missing or are not the ones registered."""


@dataclass(frozen=True)
class Weights:
    """One entry of the registry: a set of files that an installed package carries."""

    name: str
    package: str
    files: dict[str, str]  # path inside the package -> sha256
    licence: str
    source: str

    def paths(self) -> list[Path]:
        """The files, in the registry's order; `WeightsError` if one is missing or differs."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise WeightsError(
                f"weights {self.name!r} come with the package {self.package!r}, which is not installed: make setup"
            )
        folder = Path(spec.origin).parent
        for file, sha256 in self.files.items():
            found = _file_sha256(folder / file) if (folder / file).is_file() else "no such file"
            if found != sha256:
                raise WeightsError(
                    f"weights {self.name!r}: {folder / file}: expected sha256 {sha256}, found {found}; "
                    f"the package {self.package!r} has another version than the registry {REGISTRY.name}: make setup"
                )
        return [folder / file for file in self.files]

    @property
    def sha256(self) -> str:
        """One hash for all files: what fingerprints and ``dataset.json`` carry."""
        return hashlib.sha256("".join(self.files.values()).encode()).hexdigest()


@lru_cache(maxsize=1)
def registry(path: Path = REGISTRY) -> dict[str, Weights]:
    """All entries of the registry, by name."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Weights(name=name, **table) for name, table in tables.items()}


def find_weights(name: str) -> Weights:
    """The registry's entry of that name."""
    try:
        return registry()[name]
    except KeyError:
        raise WeightsError(f"no weights {name!r} in {REGISTRY}; known: {', '.join(registry())}") from None


def resolve_all(names: list[str]) -> None:
    """Check all weights of a plan at once; one `WeightsError` lists everything that is wrong."""
    problems = []
    for name in sorted(set(names)):
        try:
            find_weights(name).paths()
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError("\n".join(problems))


@lru_cache(maxsize=64)
def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
