"""Examples of a page, found by Sybil: Python and shell blocks run in order in the current folder; blocks that are
files are written."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from sybil import Document, Example, Lexeme, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from sybil.parsers.myst import CodeBlockParser, SkipParser
from typer.testing import CliRunner

from simulator.command.app import app

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Tests simulate less time than the pages say: every duration of more than five minutes becomes five minutes.
LONG = re.compile(r"(duration_s\W{1,3})(?:[6-9]\d\d|\d{4,5})(?:\.0)?\b")
SHORT = r"\g<1>300"


def shorter(text: str) -> str:
    """
    >>> shorter("{rate_rps: 40, duration_s: 3600}"), shorter("workload.duration_s=900")
    ('{rate_rps: 40, duration_s: 300}', 'workload.duration_s=300')
    """
    return LONG.sub(SHORT, text)


def parsed(page: Path) -> Document:
    """A page with its examples. Fences without a language count as shell (the README has them)."""
    shell, python = CodeBlockParser("sh", _shell), CodeBlockParser("python", _python)
    return Document.parse(str(page), SkipParser(), _files, python, shell, _bare)


def _files(document: Document) -> Iterator[Region]:
    for match in FILE.finditer(document.text):
        yield Region(match.start(), match.end(), match.groups(), _write)


def _bare(document: Document) -> Iterator[Region]:
    for region in RawFencedCodeBlockLexer()(document):
        region.parsed, region.evaluator = region.lexemes["source"], _shell
        yield region


def _write(example: Example) -> None:
    path = Path(example.parsed[0])
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(shorter(example.parsed[1]))


def _python(example: Example) -> str | None:
    source = example.parsed
    example.parsed = Lexeme(shorter(source), source.offset, source.line_offset)
    return PythonEvaluator()(example)


def _shell(example: Example) -> str | None:
    """What a line puts out where it fails, else None. Only ``servelab`` is run; a target of ``make`` must exist."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(shorter(line), comments=True)
        if not words:
            continue
        if words[0] == "make":
            targets = [w for w in words[1:] if "=" not in w]
            if not all(re.search(rf"^{t}:", MAKEFILE, re.MULTILINE) for t in targets):
                return f"{line}: no such target"
            continue
        if Path(words[0]).name != "servelab":
            return f"{line}: the tests run servelab only"
        done = CliRunner(env={"COLUMNS": "160"}).invoke(app, words[1:])
        if done.exit_code:
            return f"{line}\nexit code {done.exit_code}\n{done.output}\n{done.exception!r}"
        if words[1] == "init":
            made = Path(words[2] if len(words) > 2 else "scenario.yaml")
            made.write_text(shorter(made.read_text()))
    return None
