"""A shell whose programs are written down: for tests of what parses a vendor's tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edge_sdk.errors import ShellError

Answer = str | ShellError | Callable[[Sequence[str]], str]


class FakeShell:
    """Answers commands from a table; a `edge_sdk.shell.Shell`.

    Args:
        answers: By command line, such as ``{"vcgencmd get_throttled": "throttled=0x0\\n"}``; or by the program alone,
            ``"nvpmodel"``, for every line of it that is not there. An error is raised, a function is called.

    Attributes:
        commands: What was run, in order.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.commands: list[str] = []

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        """As `Shell.run`."""
        line = " ".join(command)
        self.commands.append(line)
        answer = self.answers.get(line, self.answers.get(command[0]))
        if answer is None:
            raise ShellError(f"{command[0]}: not installed")
        if isinstance(answer, ShellError):
            raise answer
        return answer if isinstance(answer, str) else answer(command)
