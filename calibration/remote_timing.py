"""A board's own figures, over a shell: files are copied there, `edge-sdk benchmark` times them, its JSON is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_sdk.backends.base import Backend, Layer, named
from edge_sdk.calibration.outcome import Origin, Timed
from edge_sdk.calibration.timing import batches, check_reference, machine_line, sha256_of_file
from edge_sdk.calibration.timing_record import layers_from, timed_from
from edge_sdk.conditions.environment import cpu_name
from edge_sdk.errors import BackendError, one_line
from edge_sdk.shell import FileShell


class RemoteTimer:
    """A board at the other end of a shell, on which `edge-sdk` is installed.

    Args:
        shell: To the board: `edge_sdk.shell.SshShell`.
        command: How `edge-sdk` is called there.
        folder: There, for the files; they stay, so that none is copied twice.
        backend, threads, options, seconds: Of ``edge-sdk benchmark``.
        timeout_s: For one call.
    """

    method: Origin = "measured"

    def __init__(
        self,
        shell: FileShell,
        *,
        command: Sequence[str] = ("edge-sdk",),
        folder: str = ".cache/edge-sdk/timing",
        backend: str = "onnxruntime",
        threads: int = 1,
        options: Mapping[str, str] | None = None,
        seconds: float = 1.0,
        timeout_s: float = 600.0,
    ) -> None:
        self._shell, self._command, self._folder, self._timeout_s = shell, list(command), folder, timeout_s
        self._backend: Backend = named(backend)[0]
        self._words = ["--backend", backend, "--threads", str(threads), "--seconds", repr(float(seconds))]
        for key, value in sorted((options or {}).items()):
            self._words += ["--option", f"{key}={value}"]
        self._threads = threads

    @cached_property
    def on(self) -> str:
        """The board, its processor, the engine with its version, and threads; asked there once.

        Raises:
            ShellError: It cannot be reached, or has no `edge-sdk`.
            BackendError: It has no such engine.
        """
        facts = self._asked([*self._command, "devices", "--json"])
        try:
            board = str(facts["target"]["model"] or facts["target"]["label"])
            engine = next(one for one in facts["backends"] if one["name"] == self._backend.name)
            missing, version = engine["missing"], engine["version"]
        except (LookupError, TypeError, StopIteration) as error:
            raise BackendError("the board's edge-sdk does not say what it is: is it as new as this one?") from error
        if missing is not None:
            raise BackendError(f"the board has no {self._backend.name}: {missing}")
        cpu = cpu_name(self._shell.run(["cat", "/proc/cpuinfo"]))
        return machine_line(f"{board}, {cpu}" if cpu else board, self._backend.name, version, self._threads)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `edge-sdk benchmark` is told."""
        return {"words": list(self._words)}

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        """As `Timer.time`.

        Raises:
            ShellError: The board cannot be reached, has no `edge-sdk`, or it failed there, with what it said.
        """
        check_reference(files, reference)
        found: dict[str, Timed] = {}
        for batch in batches(files, reference):
            paths = {name: self._put(files[name]) for name in batch}
            words = [*self._command, "benchmark", paths[reference], *self._words, "--json"]
            others = list(dict.fromkeys(path for path in paths.values() if path != paths[reference]))
            for path in others or [paths[reference]]:
                words += ["--against", path]
            rows = _rows(self._asked(words), [paths[reference], *others])
            for name, path in paths.items():
                found.setdefault(name, timed_from(rows[path], "measured", f"the board's figures of {name}"))
        return {name: found[name] for name in files}

    def layers(self, file: Path) -> Sequence[Layer]:
        """As `Timer.layers`.

        Raises:
            ShellError: As for `time`.
        """
        path = self._put(file)
        words = [*self._command, "benchmark", path, *self._words, "--against", path, "--layers", "--json"]
        words[words.index("--seconds") + 1] = "0.1"  # its times are not asked for
        return layers_from(_rows(self._asked(words), [path])[path].get("layers"), f"the board's layers of {file.name}")

    def _put(self, file: Path) -> str:
        """Copies a file there, unless it is there already; its path there."""
        sha256 = sha256_of_file(file)
        path = f"{self._folder}/{sha256}{file.suffix}"
        script = '[ -f "$1" ] && sha256sum "$1" | cut -c 1-64'  # prints nothing where it is not there
        if self._shell.run(["sh", "-c", f"{script} || true", "has", path], timeout_s=60).strip() != sha256:
            self._shell.put(file, path)
        return path

    def _asked(self, words: Sequence[str]) -> Any:
        text = self._shell.run(words, timeout_s=self._timeout_s)
        try:
            return json.loads(text)
        except ValueError as error:
            raise BackendError(f"the board's edge-sdk gave no JSON: {one_line(error)}") from error


def _rows(answer: Any, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of `edge-sdk benchmark --against --json` by the path that was given."""
    rows = answer.get("turns") if isinstance(answer, dict) else None
    found: dict[str, dict[str, Any]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("path"), str):
            found.setdefault(row["path"], row)
    if any(path not in found for path in paths):
        raise BackendError("the board's edge-sdk compared no files in turns: is it as new as this one?")
    return found
