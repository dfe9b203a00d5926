"""The one seam to programs of the system: vendors' tools, and later boards at the other end of SSH."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edge_sdk.errors import ShellError, one_line


class Shell(Protocol):
    """Runs programs somewhere."""

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        """Runs a program to its end; what it printed on standard output.

        Args:
            command: The program and its arguments.
            timeout_s: Then it is killed.
            given: Its standard input.

        Raises:
            ShellError: It is not there, failed, or took too long; with the last line that it printed.
        """
        ...


class LocalShell:
    """This machine. Programs run with an English locale, because what they print is parsed."""

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        """As `Shell.run`."""
        name = command[0]
        try:
            done = subprocess.run(
                ["env", "LC_ALL=C", *command],
                input=given, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ShellError(f"{name}: not installed") from error
        except subprocess.TimeoutExpired as error:
            raise ShellError(f"{name}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise ShellError(f"{name}: cannot be run: {error.strerror or one_line(error)}") from error
        if done.returncode == 127 and name in done.stderr:  # what env says where there is no such program
            raise ShellError(f"{name}: not installed")
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise ShellError(f"{name}: {said[-1] if said else f'exit code {done.returncode}'}")
        return done.stdout


class NoShell:
    """Of a captured tree: the programs of this machine would tell of another one."""

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        """Always raises ShellError."""
        raise ShellError(f"{command[0]}: not run, because this is a captured tree")


def shell_for(root: Path) -> Shell:
    """`LocalShell` for this machine's own root, `NoShell` for a captured tree."""
    return LocalShell() if root == Path("/") else NoShell()
