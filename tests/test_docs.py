"""The documentation is whole: pages, links, commands and heads."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import edge_sdk
from edge_sdk.cli import build
from edge_sdk.models.heads.base import heads

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READABLE = [*PAGES, REPOSITORY / "README.md", REPOSITORY / "mkdocs.yml", *sorted((DOCS / "examples").rglob("*.*"))]
READABLE = [path for path in READABLE if path.is_file() and "__pycache__" not in path.parts]

COMMAND_LINE = (DOCS / "command-line.md").read_text()


def _named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# --- pages and links ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_page_is_in_the_navigation(page: Path) -> None:
    nav = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
    assert nav.count(page.relative_to(DOCS).as_posix()) == 1, f"mkdocs.yml's nav has {sorted(nav)}"


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"], ids=_named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("http://", "https://", "#")):
            assert (page.parent / link.split("#")[0]).exists(), f"{page.name} links to {link}"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; links and anchors that lead nowhere are errors of its build."""
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        try:
            found = importlib.util.find_spec(needed)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip(f"{needed} is not installed: pip install 'edge-sdk[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_and_every_link_and_anchor_resolves(site: Path) -> None:
    assert (site / "index.html").is_file()
    for page in PAGES:
        built = page.relative_to(DOCS).with_suffix("")
        folder = built.parent if built.name == "index" else built
        assert (site / folder / "index.html").is_file(), f"{page.name} was not built"


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in sorted(site.rglob("*.html")):
        loads = re.findall(r"<(?:script|img|iframe|source)[^>]+src=[\"']?(https?:[^\"'\s>]+)", page.read_text())
        loads += re.findall(r"<link[^>]+(?:stylesheet|preload|preconnect|icon)[^>]+", page.read_text())
        assert not [load for load in loads if "http" in load], page.name


@pytest.mark.parametrize("path", READABLE, ids=_named)
def test_nothing_names_a_path_of_somebodys_machine(path: Path) -> None:
    found = re.findall(r"(?<![\w.~*/-])/(?:work|home|root|tmp|Users|mnt|srv)/\S*", path.read_text())
    assert not found, f"{path.name} names {found}"


@pytest.mark.parametrize("name", edge_sdk.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    pages = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
    module = getattr(edge_sdk, name).__module__
    assert f"::: {module}.{name}\n" in pages or f"::: {module}\n" in pages, f"docs/reference/ has no {module}.{name}"


# --- the command line -----------------------------------------------------------------------------

COMMANDS = typer.main.get_command(build()).commands  # type: ignore[attr-defined]


def _section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", COMMAND_LINE, re.MULTILINE | re.DOTALL)
    assert found, f"command-line.md has no section '## {title}'"
    return found[1]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_described_with_all_its_options(name: str) -> None:
    section = _section(f"edge-sdk {name}")
    group = getattr(COMMANDS[name], "commands", None)
    for part, command in group.items() if group else {name: COMMANDS[name]}.items():
        if group:
            assert re.search(rf"^\| `{part}\b", section, re.MULTILINE), f"'{name} {part}' is not described"
        for parameter in command.params:
            option = next((word for word in parameter.opts if word.startswith("--")), None)
            if option not in (None, "--help"):
                assert re.search(rf"`{option}\b", section), f"'{name}' takes {option}, which is not described"


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", COMMAND_LINE))))
def test_every_option_that_is_described_exists(option: str) -> None:
    everywhere = {"--help", "--version", "--verbose", "--debug"}
    for command in COMMANDS.values():
        for one in getattr(command, "commands", {None: command}).values():
            everywhere |= {word for parameter in one.params for word in parameter.opts}
    assert option in everywhere


def _shell_lines() -> Iterator[tuple[str, str]]:
    """Every edge-sdk command that a page or the README shows."""
    for page in [*PAGES, REPOSITORY / "README.md"]:
        for _, block in re.findall(
            r"^( *)```(?:console|sh|bash|shell)\b[^\n]*\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            for line in block.splitlines():
                found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(edge-sdk .*)", line)
                if found and "..." not in found[1]:
                    yield page.name, found[1]


@pytest.mark.parametrize(("page", "line"), sorted(set(_shell_lines())))
def test_a_command_that_a_page_shows_is_understood(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    for end in ("|", ">", "&&", ";"):
        words = words[: words.index(end)] if end in words else words
    while words and words[0] in ("-v", "--verbose", "--debug"):
        words = words[1:]
    if not words or words[0].startswith("-"):
        return  # edge-sdk --version and the like
    command = COMMANDS[words[0]]
    rest = words[1:]
    if rest and hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], [word for word in rest if word != "--debug"])  # raises what the user would see


# --- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(heads()))
def test_every_head_is_in_the_table_of_models(name: str) -> None:
    head = heads()[name]
    row = re.search(rf"^\| `{name}` \|(.*)\|(.*)\|(.*)\|$", (DOCS / "models.md").read_text(), re.MULTILINE)
    assert row, f"docs/models.md has no row for the head {name}"
    models, _, iou = (cell.strip() for cell in row.groups())
    assert models == head.title
    assert iou == ("-" if head.default_iou is None else f"{head.default_iou:g}")


def test_the_table_of_models_has_no_head_that_is_gone() -> None:
    table = (DOCS / "models.md").read_text().split("\n## Heads\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(heads())
