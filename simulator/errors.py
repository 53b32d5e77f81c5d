"""The exceptions of bad input, and the hint that names the nearest right name."""

from collections.abc import Iterable
from difflib import get_close_matches


class ServelabError(ValueError):
    """Input that cannot be used. The message gives the value, the field and the limit."""


class UnknownName(ServelabError, KeyError):
    """A name that does not exist: a column, a metric. Also a KeyError, for code that asks for names."""

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint for a misspelt name, or an empty string when nothing is close.

    >>> nearest("h100_sxn", ["h100_sxm", "a100_sxm"])
    " (did you mean 'h100_sxm'?)"
    >>> nearest("zzz", ["h100_sxm"])
    ''
    """
    by_fold = {c.casefold(): c for c in choices}
    found = get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.5)
    return f" (did you mean {by_fold[found[0]]!r}?)" if found else ""
