"""The scenario being edited: undo, presets, YAML in and out. A faulty edit stays in the draft and says what is
wrong."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from simulator.catalog import examples_folder
from simulator.core.yaml_text import read_yaml
from simulator.errors import ServelabError, nearest
from simulator.explorer.checks import no_files
from simulator.explorer.form import Field
from simulator.explorer.starters import STARTERS
from simulator.explorer.text import mapping_of
from simulator.scenario import Scenario

TOGETHER_S = 1.0  # edits of one field within so long are one step of undo: a slider that is dragged
MOST_STEPS = 200
FORMAT = 1
MOST_SEED = 2**31


@dataclass(frozen=True)
class State:
    """What a file keeps of an explorer: the draft, its seed, and the pinned run's scenario and seed; ``plain``: a
    scenario alone."""

    mapping: Mapping[str, Any]
    seed: int = 0
    pinned: Mapping[str, Any] | None = None
    pinned_seed: int = 0
    plain: bool = False


class Draft:
    """A scenario as plain data with its history.

    ``files``: whether it may name files of this machine (traces, price files, model folders, profiles by path); a page
    for others must not read them.
    """

    def __init__(self, scenario: Scenario, files: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.base_dir, self._files, self._clock = scenario.base_dir, files, clock
        self._past: list[dict[str, Any]] = [scenario.to_mapping()]
        self._at = 0
        self._last: tuple[Any, float] = (None, 0.0)

    @property
    def mapping(self) -> dict[str, Any]:
        """The scenario as it stands; not to be changed."""
        return self._past[self._at]

    def scenario(self) -> Scenario:
        """The draft, checked. Raises ServelabError with the place of each fault."""
        found = Scenario.of(self.mapping, self.base_dir)
        if not self._files:
            no_files(found)
        return found

    # ---- edits --------------------------------------------------------------------------------------------

    def set(self, field: Field, value: Any) -> None:
        """Give ``field`` a value; None takes the default. Another member of a union begins with its starter's
        values."""
        if value == field.value:
            return
        if field.tag:
            name = str(field.path[-2])
            self._put(field.path[:-1], {field.path[-1]: value, **copy.deepcopy(STARTERS.get(name, {}).get(value, {}))})
        else:
            self._put(field.path, value)

    def _put(self, path: tuple[str | int, ...], value: Any) -> None:
        new = copy.deepcopy(self.mapping)
        node: Any = new
        for key, following in pairwise(path):
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = [] if isinstance(following, int) else {}
            node = node[key]
        if value is None:
            node.pop(path[-1], None)
        else:
            node[path[-1]] = value
        self._push(new, path)

    def _push(self, mapping: dict[str, Any], what: Any) -> None:
        now, (last, when) = self._clock(), self._last
        del self._past[self._at + 1 :]
        if what is not None and what == last and now - when < TOGETHER_S and self._at > 0:
            self._past[self._at] = mapping
        else:
            self._past.append(mapping)
            del self._past[: max(len(self._past) - MOST_STEPS, 0)]
            self._at = len(self._past) - 1
        self._last = (what, now)

    @property
    def can_undo(self) -> bool:
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        return self._at + 1 < len(self._past)

    def undo(self) -> None:
        """One step back, if there is one."""
        self._at -= self.can_undo
        self._last = (None, 0.0)

    def redo(self) -> None:
        """One step forward, if there is one."""
        self._at += self.can_redo
        self._last = (None, 0.0)

    def replace(self, scenario: Scenario) -> None:
        """Take another scenario; undo goes back to the one before."""
        if not self._files:
            no_files(scenario)
        self.base_dir = scenario.base_dir
        self._push(scenario.to_mapping(), None)

    # ---- files --------------------------------------------------------------------------------------------

    def to_text(self, seed: int = 0, pinned: Mapping[str, Any] | None = None, pinned_seed: int = 0) -> str:
        """YAML that `of_text` reads: the draft as it stands, seed and pinned run. ``servelab run`` reads
        ``scenario`` of it."""
        state: dict[str, Any] = {"explorer": FORMAT, "seed": seed, "scenario": self.mapping}
        if pinned:
            state |= {"pinned_seed": pinned_seed, "pinned": dict(pinned)}
        return yaml.safe_dump(state, sort_keys=False)


def of_text(text: str, base_dir: Path = Path()) -> State:
    """A state from the YAML of `Draft.to_text`, or from a scenario as it is.

    Raises ServelabError for text that is too long, not YAML, of another format, or not a scenario.
    """
    mapping = mapping_of(text, "the file")
    if "explorer" not in mapping:
        return State(Scenario.of(mapping, base_dir).to_mapping(), plain=True)
    if mapping["explorer"] != FORMAT:
        raise ServelabError(f"explorer: format {mapping['explorer']!r} is not supported, this servelab reads {FORMAT}")
    known = {"explorer", "seed", "scenario", "pinned", "pinned_seed"}
    for key in mapping:
        if key not in known:
            raise ServelabError(f"{key}: unknown field{nearest(str(key), known)}")
    seed, pinned = mapping.get("seed", 0), mapping.get("pinned")
    pinned_seed = mapping.get("pinned_seed", seed)
    for name, value in (("seed", seed), ("pinned_seed", pinned_seed)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_SEED:
            raise ServelabError(f"{name} must be a whole number of 0 to {MOST_SEED:,}, got {value!r}")
    return State(
        Scenario.of(mapping.get("scenario") or {}, base_dir).to_mapping(),
        seed,
        Scenario.of(pinned, base_dir).to_mapping() if pinned else None,
        pinned_seed,
    )


def presets() -> dict[str, Path]:
    """Scenarios to begin with, by name: the examples that need no file beside them."""
    found = {}
    for path in sorted(examples_folder().glob("*.yaml")):
        mapping = read_yaml(path.read_text(encoding="utf-8"), path.name)
        if (mapping.get("workload") or {}).get("source", "trace") != "trace":
            found[path.stem.replace("_", " ")] = path
    return found
