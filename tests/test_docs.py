"""The documentation is whole: pages, links, commands and heads."""

from __future__ import annotations

import importlib.util
import re
import runpy
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


# --- blocks that show an example ------------------------------------------------------------------

SYNC = REPOSITORY / "tools/sync_docs_examples.py"


def _sync(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SYNC, *words], capture_output=True, text=True, timeout=60, check=False)


def test_every_example_is_shown_and_every_block_is_its_files_text() -> None:
    done = _sync("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "README.md"], ids=_named)
def test_a_page_shows_the_examples_that_it_means_to(page: Path) -> None:
    """A line that begins with an example's link is one that the tool knows; pages on GitHub include no files."""
    text = page.read_text()
    assert "--8<--" not in text
    shown = runpy.run_path(str(SYNC))["SHOWN"]
    assert len(re.findall(r"^ *\[[^]]*examples/", text, re.MULTILINE)) == len(shown.findall(text)), (
        f"{_named(page)}: a line that shows an example is [docs/examples/NAME](...) and nothing else"
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with one page, which shows one example."""
    (tmp_path / "docs/examples").mkdir(parents=True)
    (tmp_path / "docs/examples/one.py").write_text("print(1)\n")
    (tmp_path / "docs/sub").mkdir()
    (tmp_path / "docs/sub/page.md").write_text("Before\n\n[docs/examples/one.py](anywhere)\n\nAfter\n")
    assert _sync("--root", tmp_path).returncode == 0
    return tmp_path


def test_the_tool_writes_the_file_into_the_page(small: Path) -> None:
    written = "Before\n\n[docs/examples/one.py](../examples/one.py)\n\n```python\nprint(1)\n```\n\nAfter\n"
    assert (small / "docs/sub/page.md").read_text() == written
    assert _sync("--root", small).stdout == ""
    assert _sync("--check", "--root", small).returncode == 0


@pytest.mark.parametrize("changed", ["docs/examples/one.py", "docs/sub/page.md"])
def test_a_block_that_differs_is_named_with_its_page_and_file(changed: str, small: Path) -> None:
    path = small / changed
    path.write_text(path.read_text().replace("print(1)", "print(2)"))
    before = (small / "docs/sub/page.md").read_text()
    done = _sync("--check", "--root", small)
    assert done.returncode == 1
    assert "docs/sub/page.md differs from docs/examples/one.py" in done.stderr
    assert "-print(" in done.stderr
    assert "run: python tools/sync_docs_examples.py" in done.stderr
    assert (small / "docs/sub/page.md").read_text() == before
    assert _sync("--root", small).returncode == 0
    assert (small / "docs/examples/one.py").read_text() in (small / "docs/sub/page.md").read_text()


def test_an_example_that_is_not_there_or_shown_nowhere_is_named(small: Path) -> None:
    (small / "docs/examples/one.py").rename(small / "docs/examples/two.py")
    for words in (["--check"], []):
        done = _sync(*words, "--root", small)
        assert done.returncode == 1
        assert "docs/sub/page.md shows docs/examples/one.py, and there is no such example" in done.stderr
        assert "docs/examples/two.py is shown by no page" in done.stderr


# --- the site -------------------------------------------------------------------------------------


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
