"""The tokens of a case: two prompts share the tokens they declare as shared, and no others.

A stream is a shared one, named by an integer, or a request's own, named by its id: the rest of its prompt
after the segments, then its outputs. Needs no package besides the standard library.
"""

from __future__ import annotations

from typing import Any

STREAM_TOKENS = 1_000_000
"""Most tokens of a stream: a token is stream number * STREAM_TOKENS + offset."""
FIRST_OWN_STREAM = 10_000
"""Stream numbers from here on are the requests' own, in order of arrival; below are the shared ones."""


class TokenStreams:
    """Token ids of the prompts and outputs of a case's requests; a request is named by its row."""

    def __init__(self, requests: list[dict[str, Any]]) -> None:
        self.requests = requests
        self.row = {request["id"]: i for i, request in enumerate(requests)}
        self._own_prompt = [r["prompt_tokens"] - sum(n for _, n in r.get("prefix", [])) for r in requests]

    def prompt(self, row: int) -> list[int]:
        """All tokens of the prompt: its segments in order, then its own."""
        request = self.requests[row]
        segments = [*request.get("prefix", []), [request["id"], self._own_prompt[row]]]
        return [token for stream, n in segments for token in self._first(stream, n)]

    def output(self, row: int, position: int) -> int:
        """The output token at a position, counted from 0."""
        offset: int = self._own_prompt[row] + position
        return (FIRST_OWN_STREAM + row) * STREAM_TOKENS + offset

    def _first(self, stream: int | str, tokens: int) -> range:
        number = stream if isinstance(stream, int) else FIRST_OWN_STREAM + self.row[stream]
        return range(number * STREAM_TOKENS, number * STREAM_TOKENS + tokens)
