"""Shells: files arrive whole, errors say what to do, and a real SSH server takes part where there is one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_sdk.errors import ShellError, UsageError
from edge_sdk.shell import LocalShell, SshShell


def test_files_are_carried_there_and_back_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x00\xff")
    LocalShell().put(tmp_path / "a", str(tmp_path / "deep/er/b"))
    LocalShell().get(str(tmp_path / "deep/er/b"), tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"\x00\xff"
    with pytest.raises(ShellError, match="cannot be read: No such file"):
        LocalShell().get(str(tmp_path / "none"), tmp_path / "d")
    with pytest.raises(ShellError, match="cannot be copied"):
        LocalShell().put(tmp_path / "none", str(tmp_path / "d"))


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "a b", "a\nb"])
def test_what_ssh_would_take_for_an_option_is_no_host(host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        SshShell(host)


@dataclass(frozen=True)
class Server:
    """A real sshd on the loopback interface, with keys of its own."""

    folder: Path
    port: int
    known: Path

    def shell(self, *, identity: str = "key", known: Path | None = None, port: int | None = None) -> SshShell:
        options = {"UserKnownHostsFile": str(known or self.known), "GlobalKnownHostsFile": "/dev/null"}
        return SshShell("127.0.0.1", port=port or self.port, identity=self.folder / identity, options=options)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if sshd is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no OpenSSH server and client here")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "key", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, timeout=60)
    shutil.copy(folder / "key.pub", folder / "authorized")
    port = _free_port()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile {folder / 'pid'}\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd keeps its privileges apart
    log = (folder / "log").open("wb")
    child = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if child.poll() is not None:
                pytest.skip(f"sshd does not run here: {(folder / 'log').read_text()[-200:]}")
            time.sleep(0.1)
        yield Server(folder, port, folder / "known")
    finally:
        child.terminate()
        child.wait(timeout=20)
        log.close()


def test_programs_run_on_a_real_server_with_their_arguments_as_they_are(server: Server) -> None:
    shell = server.shell()
    odd = 'a b\'; "$HOME" `x` *\n\\'
    assert shell.run(["printf", "%s", odd], timeout_s=30) == odd
    assert shell.run(["cat"], timeout_s=30, given="given\n") == "given\n"


def test_files_are_carried_to_a_real_server_and_back(server: Server, tmp_path: Path) -> None:
    shell = server.shell()
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    shell.put(tmp_path / "a", str(tmp_path / "a folder/it's"), timeout_s=60)
    shell.get(str(tmp_path / "a folder/it's"), tmp_path / "b", timeout_s=60)
    assert (tmp_path / "b").read_bytes() == data
    assert [path.name for path in (tmp_path / "a folder").iterdir()] == ["it's"]


def test_what_fails_on_a_real_server_is_told(server: Server, tmp_path: Path) -> None:
    shell = server.shell()
    with pytest.raises(ShellError, match=r"127.0.0.1: edge-sdk-of-nobody: not installed"):
        shell.run(["edge-sdk-of-nobody"], timeout_s=30)
    with pytest.raises(ShellError, match=r"127.0.0.1: sh: bad luck"):
        shell.run(["sh", "-c", "echo bad luck >&2; exit 3"], timeout_s=30)
    with pytest.raises(ShellError, match="No such file"):
        shell.get(str(tmp_path / "none"), tmp_path / "b", timeout_s=30)
    with pytest.raises(ShellError, match=r"no answer within 1 s"):
        shell.run(["sleep", "20"], timeout_s=1)


def test_an_unknown_host_a_wrong_key_and_a_closed_port_say_how_to_mend_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("")
    with pytest.raises(ShellError, match=r"its host key is not known: run 'ssh 127\.0\.0\.1' once by hand"):
        server.shell(known=tmp_path / "none").run(["true"], timeout_s=30)
    assert (tmp_path / "none").read_text() == "", "nobody accepted the key"
    (tmp_path / "other").write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'stranger.pub').read_text()}")
    with pytest.raises(ShellError, match="it has another host key than the one on record"):
        server.shell(known=tmp_path / "other").run(["true"], timeout_s=30)
    with pytest.raises(ShellError, match="it accepts no key of ours"):
        server.shell(identity="stranger").run(["true"], timeout_s=30)
    with pytest.raises(ShellError, match="it runs no SSH server on this port"):
        server.shell(port=_free_port()).run(["true"], timeout_s=30)
