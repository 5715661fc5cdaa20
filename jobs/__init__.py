"""What one can launch: one file a job, ``python -m jobs.<name>``."""

from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _check_rooms() -> None:
    """Raise if a package of ours comes from elsewhere: their names are generic, another may stand in front."""
    for room in ("schemas", "pipeline", "stages"):
        spec = find_spec(room)
        found = {str(Path(place).resolve()) for place in (spec and spec.submodule_search_locations) or ()}
        if found != {str(ROOT / room)}:
            raise ImportError(
                f"package {room!r}: expected in {ROOT / room}, found in {', '.join(found) or 'no folder'}; "
                f"run `cd {ROOT} && python -m jobs.<name>`, with nothing else of that name on PYTHONPATH"
            )


_check_rooms()
