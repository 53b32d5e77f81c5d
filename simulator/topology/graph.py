"""The stages of a path as a graph: what comes before and after each, and what the client waits for."""

import numpy as np

from simulator.topology.path import PathConfig


class StageGraph:
    """Places of stages, in the order of ``path.stages``.

    before, follow   stages right before and after each
    entries          stages with which a request begins
    branches, odds   of a branch: the stages that it may choose, and the cumulated probabilities
    waits            whether the client waits for a stage: it is on the critical path, or before one that is
    after_llm        all stages behind the LLM
    streams          whether tokens reach the client as the LLM makes them
    """

    def __init__(self, path: PathConfig) -> None:
        stages, place = path.stages, {s.name: i for i, s in enumerate(path.stages)}
        self._path = path
        self.before = [[place[b] for b in path.before(i)] for i in range(len(stages))]
        self.follow: list[list[int]] = [[] for _ in stages]
        for i, before in enumerate(self.before):
            for b in before:
                self.follow[b].append(i)
        self.count = [len(b) for b in self.before]
        self.entries = [i for i, b in enumerate(self.before) if not b]
        self.branches = [[place[b] for b in s.branches] for s in stages]
        self.odds = [np.cumsum(list(s.branches.values())) for s in stages]
        self.llm = next(i for i, s in enumerate(stages) if s.kind == "llm")
        self.waits = self._critical()
        self.after_llm = self._later(self.llm)
        self.streams = all(stages[i].streaming for i in self.after_llm if self.waits[i])

    def _later(self, i: int) -> set[int]:
        found: set[int] = set()
        todo = [i]
        while todo:
            for k in self.follow[todo.pop()]:
                if k not in found:
                    found.add(k)
                    todo.append(k)
        return found

    def _critical(self) -> list[bool]:
        """Stages that the client waits for: those on the critical path, or before one that is."""
        waits = [not s.off_critical_path for s in self._path.stages]
        for i in reversed(self._path.order()):
            waits[i] = waits[i] or any(waits[k] for k in self.follow[i])
        return waits
