"""The documentation site: built without a warning, complete, its links resolve, and it loads nothing from the
network."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4
from pages import chromium
from typer.testing import CliRunner

import simulator
from simulator import Scenario
from simulator.command.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "extensions"))

import public_api

LANGUAGE = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


def built(source: Path, out: Path) -> Path:
    """Pages of ``source`` under the configuration of docs/, notebooks as they are; a warning is an error."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-n",
            "-q",
            "-b",
            "html",
            "-c",
            DOCS,
            "-D",
            "nb_execution_mode=off",
            source,
            out,
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return built(DOCS, tmp_path_factory.mktemp("site") / "html")


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, BeautifulSoup]:
    return {p: BeautifulSoup(p.read_text(), "html.parser") for p in site.rglob("*.html")}


def test_every_page_and_notebook_is_there(site):
    wanted = [p.relative_to(DOCS).with_suffix(".html") for p in DOCS.rglob("*.md")]
    wanted += [Path("notebooks", p.name).with_suffix(".html") for p in (ROOT / "notebooks").glob("*.ipynb")]
    assert len(wanted) > 30 and [p for p in wanted if not (site / p).is_file()] == []


def test_links_and_anchors_resolve(pages):
    anchors = {p: {tag["id"] for tag in soup.find_all(id=True)} for p, soup in pages.items()}
    broken = []
    for page, soup in pages.items():
        for link in soup.find_all("a", href=True):
            target, anchor = urldefrag(link["href"])
            if ":" in target:
                continue
            path = (page.parent / unquote(target)).resolve() if target else page
            known = anchors.get(path)
            if not path.exists() or anchor and known is not None and unquote(anchor) not in known:
                broken.append((page.name, link["href"]))
    assert broken == []


def test_nothing_is_loaded_from_the_network(site, pages):
    outside = [
        (page.name, tag[attribute])
        for page, soup in pages.items()
        for name, attribute in LOADED.items()
        for tag in soup.find_all(name, attrs={attribute: re.compile("^(https?:)?//")})
    ]
    styles = [s.read_text() for s in site.rglob("*.css")]
    assert outside == []
    assert not any(re.search(r"(?:url\(|@import )['\"]?(?:https?:)?//", text) for text in styles)


def test_pages_open_in_a_browser_without_a_network(site):
    outside, faults = [], []

    def routed(route):
        if route.request.url.startswith("file://"):
            return route.continue_()
        outside.append(route.request.url)
        return route.abort()

    with chromium() as browser:
        tab = browser.new_page()
        tab.route("**/*", routed)
        tab.on("pageerror", lambda fault: faults.append(str(fault)))
        for name in ("index", "notebooks/01_quickstart", "schema"):
            tab.goto((site / f"{name}.html").as_uri())
            assert tab.locator("h1").count() == 1
    assert outside == [] and faults == []


def test_a_chart_of_a_notebook_is_its_picture(tmp_path):
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="9"/></svg>'
    data = {"application/vnd.vegalite.v5+json": {}, "image/svg+xml": picture, "text/plain": "chart"}
    output = v4.new_output("execute_result", data=data, execution_count=1)
    cells = [v4.new_markdown_cell("# One chart"), v4.new_code_cell("chart", outputs=[output])]
    source = tmp_path / "source"
    source.mkdir()
    nbformat.write(v4.new_notebook(cells=cells, metadata=LANGUAGE), source / "index.ipynb")
    page = BeautifulSoup((built(source, tmp_path / "html") / "index.html").read_text(), "html.parser")
    (image,) = page.select(".cell_output img")
    assert (tmp_path / "html" / image["src"]).read_text() == picture


def test_the_schema_page_has_every_field_with_its_meaning(site, pages):
    soup = pages[site / "schema.html"]
    schema = Scenario.model_json_schema()
    for name, part in {"Scenario": schema, **schema["$defs"]}.items():
        section = soup.find(id=f"schema-{name.lower()}")
        section = section if section.name == "section" else section.find_parent("section")
        rows = {}
        if part.get("properties"):
            body = section.find("tbody")
            cells = [[td.get_text(strip=True) for td in tr.find_all("td")] for tr in body.find_all("tr")]
            rows = {row[0]: row for row in cells}
        assert list(rows) == list(part.get("properties", {})), name
        assert all(row[1] and row[5] for row in rows.values()), (name, rows)


def test_the_command_page_has_every_command_and_option(site, pages):
    text = pages[site / "commands.html"].find("article").get_text()
    waiting, commands = [[]], []
    while waiting:
        path = waiting.pop()
        said = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*path, "--help"]).output
        below = re.findall(r"^│ ([a-z][a-z-]+) ", said.partition("─ Commands ")[2], re.MULTILINE)
        waiting += [[*path, name] for name in below]
        if not below:
            commands.append(" ".join(["servelab", *path]))
            options = set(re.findall(r"^│ [* ]+(--[a-z][a-z-]+)", said, re.MULTILINE)) - {"--help"}
            chapter = text.split(f"{commands[-1]}¶", 1)[1].split("¶", 1)[0]
            assert [o for o in options if o not in chapter] == [], commands[-1]
    joined = {"servelab calibrate", "servelab validate drift", "servelab fit-log"}
    assert len(commands) > 20 and joined <= set(commands)


DIRECTIVE = re.compile(r"^\.\. auto\w+:: ([\w.]+)[()]*\n(?:   :members: ?(.*)\n)?", re.MULTILINE)


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    assert sorted(re.findall(r"public-api::\n\n   (\w+)", text)) == sorted(simulator.PUBLIC)
    assert len(set(simulator.__all__)) == len(simulator.__all__) > 50


def test_every_name_of_the_api_has_a_docstring():
    names, bare = 0, []
    for page in (DOCS / "api").glob("*.md"):
        text = page.read_text()
        text += "".join(public_api.as_rst(subject) for subject in re.findall(r"public-api::\n\n   (\w+)", text))
        for name, members in DIRECTIVE.findall(text):
            thing = _found(name)
            parts = thing.__all__ if hasattr(thing, "__all__") else [m for m in members.split(", ") if m]
            told = {name: thing, **{f"{name}.{m}": getattr(thing, m) for m in parts}}
            names += len(told)
            bare += [n for n, t in told.items() if not (t.__doc__ or "").strip()]
    assert names > 60 and bare == []


def _found(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
