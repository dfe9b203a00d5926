"""Environments of the peers' own: made by pip when first used, pinned, and kept.

Nothing of a peer enters the environment that this repository runs in, and none is a dependency of the product.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_READY = "installed.json"


class NotInstalledError(Exception):
    """A peer's environment could not be made; the message is one line that says why."""


@dataclass(frozen=True)
class Environment:
    """What a peer is installed with.

    Args:
        name: Of its folder.
        requirements: Pinned, as pip reads them.
        pythons: Versions that all of them are made for, the preferred one first.
    """

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...] = ("3.11", "3.12", "3.10", "3.13")

    @property
    def digest(self) -> str:
        """Of what is in it, so that other pins make another environment."""
        return hashlib.sha256(json.dumps([self.name, *self.requirements]).encode()).hexdigest()[:12]

    def folder(self, cache: Path) -> Path:
        """Where it is made."""
        return cache / "environments" / f"{self.name}-{self.digest}"

    def ready(self, cache: Path) -> bool:
        """Whether it is there, whole."""
        return (self.folder(cache) / _READY).is_file()

    def make(self, cache: Path) -> Path:
        """Makes it where it is not there.

        Returns:
            Its interpreter.

        Raises:
            NotInstalledError: No fitting Python is here, or pip could not install it.
        """
        folder = self.folder(cache)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if self.ready(cache):
            return python
        base = _interpreter(self.pythons)
        shutil.rmtree(folder, ignore_errors=True)  # half of one, left by a run that was stopped
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([base, "-m", "venv", str(folder)], "venv")
        _run([str(python), "-m", "pip", "install", "--quiet", *self.requirements], "pip")
        _run([str(python), "-m", "pip", "check"], "pip")
        frozen = _run([str(python), "-m", "pip", "freeze"], "pip").split()
        (folder / _READY).write_text(json.dumps(frozen, indent=1), encoding="utf-8")
        return python

    def versions(self, cache: Path) -> tuple[str, ...]:
        """All that pip put in it, as ``name==version``; empty before it is made."""
        try:
            return tuple(json.loads((self.folder(cache) / _READY).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()


def _interpreter(wanted: tuple[str, ...]) -> str:
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in wanted:
        # Of the running interpreter's own line: its base, since an environment in an environment inherits nothing.
        found = sys.executable if version == running else shutil.which(f"python{version}")
        if found is None:
            continue
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:  # version managers put names on the path that stand for nothing
            return found
    raise NotInstalledError(f"no Python of {', '.join(wanted)} is here")


def _run(command: list[str], who: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalledError(f"{who}: {reason(done.stderr or done.stdout)}")
    return done.stdout


def reason(text: str) -> str:
    """The line of a program's output that says what went wrong: the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|error)\b|\w*(Error|Exception)\b", line)]
    return (errors or lines or ["it said nothing"])[-1][:300]
