"""Every error the SDK raises on purpose, as a tree under one root.

A class is also the built-in kind that a caller would catch without knowing the SDK, so that
``except FileNotFoundError`` works. Messages say what was wanted, what was found and how to mend it,
in one line.
"""

from __future__ import annotations


class EdgeSdkError(Exception):
    """The root: catch this to catch everything the SDK raises on purpose."""


class UsageError(EdgeSdkError, ValueError):
    """An argument that cannot mean anything: a wrong value, or two that exclude each other."""


class MissingDependencyError(EdgeSdkError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class TargetError(EdgeSdkError, ValueError):
    """A board table is malformed, or no board has the name that was asked for."""


class BackendError(EdgeSdkError, RuntimeError):
    """An engine could not open or run a model, or something else became active than was asked for."""


class ModelError(EdgeSdkError, ValueError):
    """A model file, or what is known about it, cannot be used."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """No file and no zoo model has this name."""


class UnknownLayoutError(ModelError):
    """No head recognises the model's inputs and outputs."""


class AmbiguousLayoutError(ModelError):
    """Several heads fit the model; the message lists them and the flag that settles it."""


class DownloadError(EdgeSdkError, OSError):
    """A model could not be fetched."""


class ChecksumError(DownloadError):
    """What was fetched or found is not the file whose checksum is on record; it was not used."""


class SourceError(EdgeSdkError, OSError):
    """A camera, stream, video or photo could not be opened or read."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The file, folder or camera is not there."""


class BadFrameError(SourceError):
    """One picture could not be read; the source goes on with the next."""


class PlanError(EdgeSdkError, ValueError):
    """A plan file is malformed, or contradicts itself."""


class DatasetError(EdgeSdkError, ValueError):
    """A data folder has no layout that the SDK reads, or its labels are broken."""


class SinkError(EdgeSdkError, OSError):
    """A result could not be written."""


class SensorError(EdgeSdkError, OSError):
    """A sensor is not there or gives no value; the message says why, and how to mend it where that is known."""


class PowerModeError(EdgeSdkError, RuntimeError):
    """A power mode could not be set, or another one is set afterwards."""


class RebootNeededError(PowerModeError):
    """The board takes this power mode only when it starts; nothing was changed."""


class ProfileError(EdgeSdkError, ValueError):
    """A file is no profile that this version reads."""


class ShellError(EdgeSdkError, RuntimeError):
    """An external program failed; the message carries its last line."""


def extra_hint(extra: str) -> str:
    """The command that installs an optional part of the SDK."""
    return f"pip install 'edge-sdk[{extra}]'"


# What the wheel of OpenCV links, and a minimal Debian or Raspberry Pi OS lacks.
OPENCV_LIBRARIES_HINT = "OpenCV needs system libraries: sudo apt install libgl1 libglib2.0-0"


def one_line(error: BaseException) -> str:
    """An error's text on one line, for messages that quote another program's error."""
    return " ".join(str(error).split()) or type(error).__name__
