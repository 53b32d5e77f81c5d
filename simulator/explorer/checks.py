"""What a page may be asked for: no files of its machine where others use it, and no more designs than it can judge."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from simulator.catalog import in_catalog
from simulator.catalog.profile import load_profiles
from simulator.errors import ServelabError
from simulator.explorer.limits import Limits, TooLarge
from simulator.planner.sweep import TRAFFIC, points, with_fields
from simulator.scenario import Scenario


def no_files(scenario: Scenario) -> None:
    """Raises ServelabError for a scenario that names a file of this machine: only names of the catalog are none."""
    mapping = scenario.to_mapping()
    named = [("workload.path", mapping["workload"].get("path")), ("prices.file", mapping["prices"].get("file"))]
    for i, d in enumerate(mapping["deployments"]):
        model, profile = d["model"], d["step_time"].get("name")
        if isinstance(model, str) and not in_catalog("model", model):
            named.append((f"deployments.{i}.model", model))
        if profile is not None and profile not in load_profiles():
            named.append((f"deployments.{i}.step_time.name", profile))
    for field, value in named:
        if value is not None:
            raise ServelabError(
                f"{field}: {value!r} is not in the catalog, and this page reads no files of its machine"
            )


def sound(choices: Any, designs: int) -> None:
    """Raises ServelabError for choices that are no lists of values, or of which there are more than ``designs``."""
    if not isinstance(choices, Mapping) or not choices:
        raise ServelabError("choices: expected fields, each with a list of values, such as replicas: [1, 2]")
    for name, values in choices.items():
        if not isinstance(name, str):
            raise ServelabError(f"choices: {name!r} is not the name of a field")
        if not isinstance(values, list | tuple) or not values:
            raise ServelabError(f"choices: {name} must be a list of values such as [1, 2], got {values!r}")
        for value in values if name == TRAFFIC else ():
            usable = isinstance(value, int | float) and not isinstance(value, bool)
            if not usable or not 0 < value < math.inf:
                raise ServelabError(f"choices: {name} must be numbers above 0, got {value!r}")
    found = math.prod(len(values) for values in choices.values())
    if found > designs:
        raise ServelabError(
            f"choices: {found:,} combinations, more than the {designs:,} that are looked at here; give fewer values"
        )


def each(
    scenario: Scenario,
    choices: Mapping[str, list[Any]],
    files: bool,
    limits: Limits,
    told: Callable[[float, float, str], None],
) -> None:
    """Raises ServelabError for the first combination that names a file, where none may be, or that is too large.

    One that cannot run for another reason is none of this: the plan says so of it.
    """
    combinations = points(choices)
    for i, chosen in enumerate(combinations):
        told(i, len(combinations), "checking the choices")
        made = with_fields(scenario, chosen)
        if not files:
            no_files(made)
        try:
            limits.check(made)
        except TooLarge as problem:
            raise ServelabError(f"choices {chosen}: {problem}") from None
        except ServelabError:
            continue
