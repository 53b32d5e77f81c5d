"""YAML that people paste: not too long, without bombs of aliases, and every fault is said."""

from collections.abc import Iterator
from typing import Any

import yaml

from simulator.core.yaml_text import read_yaml, yaml_value
from simulator.errors import ServelabError

MOST_BYTES = 1_000_000
MOST_ALIASES = 50  # aliases of aliases make a small file a huge scenario


def text_of(content: bytes) -> str:
    """The text of a file. Raises ServelabError for one that is no text."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ServelabError(f"the file is not text in UTF-8: {problem}") from None


def value_of(text: str, what: str) -> Any:
    """The value that ``text`` is; ``what`` it is called. Raises ServelabError for text that is too long or not YAML."""
    _short(text, what)
    return yaml_value(text, what)


def mapping_of(text: str, what: str) -> dict[str, Any]:
    """As `value_of`, of a mapping."""
    _short(text, what)
    return read_yaml(text, what)


def _short(text: str, what: str) -> None:
    if len(text) > MOST_BYTES:
        raise ServelabError(f"{what}: {len(text):,} bytes, longer than the {MOST_BYTES:,} that are read")
    if sum(isinstance(token, yaml.AliasToken) for token in _tokens(text)) > MOST_ALIASES:
        raise ServelabError(f"{what} has more than {MOST_ALIASES} aliases (*name)")


def _tokens(text: str) -> Iterator[yaml.Token]:
    """Tokens up to the first fault, which is said by whoever reads the text."""
    try:
        yield from yaml.scan(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return
