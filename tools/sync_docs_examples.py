"""Writes the files of docs/examples/ into the pages that show them: edit the file, then run this.

    python tools/sync_docs_examples.py            # after an example was edited
    python tools/sync_docs_examples.py --check    # what the tests run: exit code 1 where a page and a file differ

A page shows a file where a line is nothing but a link to it. The block below the line is this tool's:

    [docs/examples/one_picture.py](examples/one_picture.py)
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LANGUAGES = {".py": "python", ".toml": "toml"}

# The line that names a file, and the block below it, where there is one yet.
SHOWN = re.compile(
    r"^\[docs/examples/(?P<name>[^]\n]+)\]\([^)\n]*\)\n(?:\n```\w*\n(?P<text>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def pages(root: Path) -> list[Path]:
    """Every page of the documentation, and the README."""
    return [*sorted((root / "docs").rglob("*.md")), *root.glob("README.md")]


def examples(root: Path) -> list[Path]:
    return sorted(path for path in (root / "docs/examples").rglob("*.*") if path.suffix in LANGUAGES)


def synced(page: Path, root: Path) -> tuple[str, list[str]]:
    """The page with the files' text in its blocks, and what was wrong before, a message each."""
    faults: list[str] = []

    def block(found: re.Match[str]) -> str:
        path = root / "docs/examples" / found["name"]
        where, what = page.relative_to(root), f"docs/examples/{found['name']}"
        if path.suffix not in LANGUAGES or not path.is_file():
            faults.append(f"{where} shows {what}, and there is no such example")
            return found[0]
        text = path.read_text(encoding="utf-8")
        if "```" in text:
            faults.append(f"{where} shows {what}, whose ``` would end the block")
            return found[0]
        link = Path(os.path.relpath(path, page.parent)).as_posix()
        whole = f"[{what}]({link})\n\n```{LANGUAGES[path.suffix]}\n{text}```\n"
        if whole != found[0]:
            diff = unified_diff(found[0].splitlines(), whole.splitlines(), str(where), what, lineterm="", n=1)
            faults.append("\n".join([f"{where} differs from {what}, which it shows:", *diff]))
        return whole

    return SHOWN.sub(block, page.read_text(encoding="utf-8")), faults


def unshown(root: Path) -> Iterator[str]:
    """A message for each example that no page shows."""
    shown = {found["name"] for page in pages(root) for found in SHOWN.finditer(page.read_text(encoding="utf-8"))}
    for path in examples(root):
        if path.relative_to(root / "docs/examples").as_posix() not in shown:
            yield f"{path.relative_to(root)} is shown by no page"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where something differs")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the repository; this one")
    arguments = parser.parse_args(words)
    root = arguments.root.resolve()
    faults = []
    for page in pages(root):
        text, found = synced(page, root)
        if not arguments.check and text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(f"{page.relative_to(root)}: written")
            found = synced(page, root)[1]  # what writing does not mend
        faults += found
    faults += unshown(root)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults and arguments.check:
        print("edit the file in docs/examples/, then run: python tools/sync_docs_examples.py", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
