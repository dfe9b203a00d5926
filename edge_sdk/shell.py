"""The one seam to programs of the system: vendors' tools, and boards at the other end of SSH."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edge_sdk.errors import ShellError, UsageError, one_line
from edge_sdk.files import replacing


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


class FileShell(Shell, Protocol):
    """A shell that also carries files there and back."""

    def put(self, file: Path, path: str, *, timeout_s: float = 600.0) -> None:
        """Copies a file there, whole or not at all; folders on the way are made.

        Args:
            file: Here.
            path: There; a relative one begins where its programs start, on a board in the home folder.
            timeout_s: Then it is given up.

        Raises:
            ShellError: It cannot be read here or written there, or took too long.
        """
        ...

    def get(self, path: str, file: Path, *, timeout_s: float = 600.0) -> None:
        """Copies a file from there, whole or not at all.

        Raises:
            ShellError: It is not there, or took too long.
            SinkError: It cannot be written here.
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

    def put(self, file: Path, path: str, *, timeout_s: float = 600.0) -> None:
        """As `FileShell.put`."""
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with replacing(Path(path)) as temporary:
                shutil.copyfile(file, temporary)
        except OSError as error:
            raise ShellError(f"{file} cannot be copied to {path}: {error.strerror or one_line(error)}") from error

    def get(self, path: str, file: Path, *, timeout_s: float = 600.0) -> None:
        """As `FileShell.get`."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ShellError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
        with replacing(file) as temporary:
            temporary.write_bytes(data)


class SshShell:
    """A board at the other end of the system's OpenSSH, by a key that it knows: nothing is ever asked.

    Files go through `cat`, so that the board needs no SFTP. Whoever opens it shows by hand once that the board is the
    one that is meant: an unknown host key is an error, never accepted.

    Args:
        host: As `ssh` takes it: "pi@192.168.1.7", or a name from ~/.ssh/config.
        port: None for the configured one.
        identity: File of the private key; None for the configured ones.
        options: Of ``ssh -o``: {"UserKnownHostsFile": "/tmp/known"}.

    Raises:
        UsageError: The host begins with a hyphen or is empty, which `ssh` would take for an option.
    """

    def __init__(
        self,
        host: str,
        *,
        port: int | None = None,
        identity: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if not host or host.startswith("-") or any(letter.isspace() for letter in host):
            raise UsageError(f"{host!r} is no host: write it as user@address")
        self.host = host
        wanted = {"BatchMode": "yes", "ConnectTimeout": "10", "StrictHostKeyChecking": "yes", **(options or {})}
        self._ssh = ["ssh", "-T", *(word for key, value in wanted.items() for word in ("-o", f"{key}={value}"))]
        if port is not None:
            self._ssh += ["-p", str(port)]
        if identity is not None:
            self._ssh += ["-i", str(identity), "-o", "IdentitiesOnly=yes"]

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        """As `Shell.run`. What takes too long is left behind there; its connection is cut."""
        return self._run(["env", "LC_ALL=C", *command], command[0], given.encode(), timeout_s).decode(errors="replace")

    def put(self, file: Path, path: str, *, timeout_s: float = 600.0) -> None:
        """As `FileShell.put`."""
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ShellError(f"{file}: cannot be read: {error.strerror or one_line(error)}") from error
        # Where the connection ends early the length is another, and nothing gets the name.
        script = (
            'mkdir -p "$(dirname "$1")" && cat > "$1.part" && '
            'if [ "$(wc -c < "$1.part")" -eq "$2" ]; then mv "$1.part" "$1"; else rm "$1.part"; exit 1; fi'
        )
        self._run(["sh", "-c", script, "put", path, str(len(data))], "sh", data, timeout_s)

    def get(self, path: str, file: Path, *, timeout_s: float = 600.0) -> None:
        """As `FileShell.get`."""
        data = self._run(["cat", path], "cat", b"", timeout_s)
        with replacing(file) as temporary:
            temporary.write_bytes(data)

    def _run(self, command: Sequence[str], name: str, given: bytes, timeout_s: float) -> bytes:
        try:
            done = subprocess.run(
                [*self._ssh, "--", self.host, shlex.join(command)],
                input=given, capture_output=True, timeout=timeout_s, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ShellError("ssh: not installed; apt install openssh-client") from error
        except subprocess.TimeoutExpired as error:
            raise ShellError(f"{self.host}: {name}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise ShellError(f"ssh: cannot be run: {error.strerror or one_line(error)}") from error
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.decode(errors="replace").strip()
        last = (said or done.stdout.decode(errors="replace").strip()).splitlines()
        if done.returncode == _SSH_FAILED:
            for words, mend in _SSH_MENDS.items():
                if words in said:
                    raise ShellError(f"{self.host}: {mend.format(host=self.host)} (ssh says: {last[-1]})")
        if done.returncode == 127:  # env's and the shell's code where there is no such program
            raise ShellError(f"{self.host}: {name}: not installed")
        raise ShellError(f"{self.host}: {name}: {last[-1] if last else f'exit code {done.returncode}'}")


_SSH_FAILED = 255  # its own errors, see ssh(1), "EXIT STATUS"
_SSH_MENDS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "it has another host key than the one on record: find out why, then "
    "ssh-keygen -R",
    "Host key verification failed": "its host key is not known: run 'ssh {host}' once by hand and compare it",
    "Permission denied": "it accepts no key of ours: run 'ssh-copy-id {host}' once",
    "Could not resolve hostname": "there is no host of this name",
    "Connection refused": "it runs no SSH server on this port",
    "Connection timed out": "it does not answer",
    "No route to host": "it cannot be reached",
}


class NoShell:
    """Of a captured tree: the programs of this machine would tell of another one."""

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        """Always raises ShellError."""
        raise ShellError(f"{command[0]}: not run, because this is a captured tree")


def shell_for(root: Path) -> Shell:
    """`LocalShell` for this machine's own root, `NoShell` for a captured tree."""
    return LocalShell() if root == Path("/") else NoShell()
