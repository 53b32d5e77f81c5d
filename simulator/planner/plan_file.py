"""A planning question as a file: the scenario, the choices, what a plan must hold, what is not known."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.core.faults import explain
from simulator.core.yaml_text import overridden
from simulator.errors import ServelabError
from simulator.planner.designs import Claim
from simulator.planner.worlds import Uncertainty
from simulator.scenario import Scenario, known_fields


class PlanFile(BaseModel):
    """``scenario`` is a mapping, or a file relative to this one; ``choices`` are fields and values as in a sweep."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(default="", description="in words, for the decision record")
    scenario: str | dict[str, Any]
    choices: dict[str, list[Any]] = Field(min_length=1)
    claim: Claim = Claim()
    uncertainty: Uncertainty = Uncertainty()

    @classmethod
    def load(cls, path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> tuple["PlanFile", Scenario]:
        """The question and its scenario. Raises ServelabError for a file that is missing, no YAML or faulty.

        ``overrides`` are those of the scenario.
        """
        path = Path(path)
        try:
            mapping = yaml.safe_load(path.read_text())
        except OSError:
            raise ServelabError(f"plan {str(path)!r}: no such file") from None
        except (yaml.YAMLError, UnicodeDecodeError) as problem:
            raise ServelabError(f"plan {str(path)!r} is not YAML: {problem}") from None
        if not isinstance(mapping, dict):
            raise ServelabError(f"plan {str(path)!r}: expected a mapping, got {type(mapping).__name__}")
        try:
            found = cls.model_validate(mapping)
        except ValidationError as problem:
            raise ServelabError("\n".join(explain(problem, mapping, known_fields))) from None
        if isinstance(found.scenario, str):
            return found, Scenario.load(path.parent / found.scenario, overrides)
        inline: dict[str, Any] = found.scenario
        for override in overrides:
            inline = overridden(inline, override)
        return found, Scenario.of(inline, path.parent)
