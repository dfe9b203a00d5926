"""The training run: steps, moving average, checkpoints that a kill cannot spoil, a log."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import centred
from auxiliary import Auxiliary
from feed import Batch, Recipe, batches
from gelan import Detector, anchors
from inherit import inherit
from loss import Losses, detection_loss, teaching_loss
from photos import Photo
from teacher import Teacher
from torch import Tensor, nn

from edge_sdk.files import replacing
from edge_sdk.sources.files import read_photo

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CLIP = 10.0
_LAST_RATE = 0.01
_NORM_PHOTOS = 48
_NEW = ("scores.weight", "scores.bias", "sides.weight", "sides.bias")


@dataclass(frozen=True)
class Config:
    """The fields of config.toml; see there."""

    classes: tuple[str, ...]
    height: int
    width: int
    batch: int
    steps: int
    warmup: int
    rate: float
    inherited: float
    held: float
    decay: float
    mosaic: float
    plain: float
    average: float
    auxiliary: float
    teaching: float
    inherit: bool
    seed: int
    shares: Mapping[str, float]

    @classmethod
    def read(cls, path: Path, changes: Mapping[str, Any] | None = None) -> Config:
        """The file's values, `changes` put over them.

        Raises:
            ValueError: A key too many, a key too few, or a side that 32 does not divide.
        """
        table = {**tomllib.loads(path.read_text()), **(changes or {})}
        names = {item.name for item in dataclasses.fields(cls)}
        if set(table) != names:
            raise ValueError(f"{path}: {', '.join(sorted(set(table) ^ names))}: unknown, or missing")
        table["classes"] = tuple(table["classes"])
        config = cls(**table)
        if config.height % 32 or config.width % 32 or not config.height * config.width:
            raise ValueError(f"{path}: {config.height} x {config.width}: 32 must divide both sides")
        for name in ("batch", "steps"):
            if not isinstance(table[name], int) or table[name] < 1:
                raise ValueError(f"{path}: {name} must be a whole number from 1, not {table[name]!r}")
        for name in ("mosaic", "plain", "held", "average"):
            if not 0 <= table[name] <= 1:
                raise ValueError(f"{path}: {name} must be between 0 and 1, not {table[name]!r}")
        return config

    @property
    def recipe(self) -> Recipe:
        plain_from = self.steps - round(self.steps * self.plain)
        return Recipe(self.height, self.width, self.batch, self.mosaic, plain_from, self.shares, self.seed)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step: up in a line, down in half a cosine."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


class Run:
    """One training run in a folder: ``checkpoint.pt`` and ``log.jsonl``. Goes on where it was stopped.

    Args:
        config: The recipe.
        photos: To train on.
        teacher: The published yolox_nano.onnx; needed to inherit from and to be taught by.
        folder: Made where it is missing.
        workers: Processes that make batches.
        device: Of PyTorch: "cpu", "cuda". The teacher stays on the processor.

    Raises:
        ValueError: The folder holds a run of another recipe, or a teacher is needed and there is none.
    """

    def __init__(
        self,
        config: Config,
        photos: Sequence[Photo],
        teacher: Path | None,
        folder: Path,
        workers: int = 1,
        device: str = "cpu",
    ) -> None:
        if teacher is None and (config.inherit or config.teaching):
            raise ValueError("this recipe needs the teacher's file: inherit and teaching are on")
        self.config, self.photos, self.folder, self.workers = config, list(photos), folder, workers
        self.device = torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.detector = Detector(len(config.classes))
        self.auxiliary = Auxiliary(len(config.classes)) if config.auxiliary else None
        self.step, self.trained_s = 0, 0.0
        self.facts = {**dataclasses.asdict(config), "photos": _digest(photos, teacher)}
        self.teacher = None
        if teacher is not None and config.teaching:
            threads = torch.get_num_threads()
            self.teacher = Teacher(teacher, config.classes, config.height, config.width, threads)
        held = folder / "checkpoint.pt"
        if not held.exists() and config.inherit and teacher is not None:
            inherit(self.detector, config.classes, teacher, _norm_pictures(photos, config))
        for module in self._modules():
            module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.detector).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=config.rate)
        self.centres, self.strides = (places.to(self.device) for places in anchors(config.height, config.width))
        if held.exists():
            self._restore(held)

    def __call__(self, every: int, then: Callable[[Run], Mapping[str, Any]] | None = None) -> None:
        """Trains to the end.

        Args:
            every: After so many steps a checkpoint is written and a line logged.
            then: Called then; what it returns goes into the line.
        """
        sums: dict[str, float] = {}
        count = 0
        began = time.monotonic()
        for batch in batches(self.photos, self.config.recipe, self.step, self.config.steps, self.workers):
            for name, value in self._learn(batch).items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            count += 1
            if self.step % every and self.step != self.config.steps:
                continue
            took = time.monotonic() - began
            self.trained_s += took
            line: dict[str, Any] = {"step": self.step, "rate": self.config.rate_at(self.step - 1)}
            line |= {name: value / count for name, value in sums.items()}
            line |= {"pictures_per_s": count * self.config.batch / took, "trained_s": self.trained_s}
            # The checkpoint first: a run that is killed between the two lacks a line, not the steps.
            self._hold()
            line |= then(self) if then else {}
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sums, count, began = {}, 0, time.monotonic()

    def _learn(self, batch: Batch) -> dict[str, float]:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate_at(self.step) * group["share"]
        pictures = as_input(torch.from_numpy(batch.pictures).to(self.device))
        truth = batch.truth.to(self.device)
        for module in self._modules():
            module.train()
        self.detector.backbone.hold_entry(config.inherit and self.step < config.held * config.steps)
        features = self.detector.backbone(pictures)
        logits, bins = self.detector.head(self.detector.neck(features))
        losses = detection_loss(logits, bins, self.centres, self.strides, truth)
        total, told = losses.total, _told(losses)
        if self.auxiliary is not None:
            beside = detection_loss(*self.auxiliary(pictures, features), self.centres, self.strides, truth)
            total = total + config.auxiliary * beside.total
            told["auxiliary"] = beside.total.item()
        if self.teacher is not None:
            known = self.teacher.known
            seen = self.teacher(batch.pictures).to(self.device)
            taught = teaching_loss(logits[..., known], seen, truth.weights[..., known])
            total = total + config.teaching * taught
            told["teaching"] = taught.item()
        if not math.isfinite(total.item()):
            raise FloatingPointError(f"the loss of step {self.step} is {total.item()}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for module in self._modules():
            nn.utils.clip_grad_norm_(module.parameters(), _CLIP)
        self.optimizer.step()
        self._average()
        return told

    @torch.no_grad()
    def _average(self) -> None:
        # Early on an average over thousands of steps would be that of the start.
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        now = self.detector.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(now[name], 1 - keep)

    def _modules(self) -> list[nn.Module]:
        return [self.detector, *([self.auxiliary] if self.auxiliary is not None else [])]

    def _groups(self) -> list[dict[str, Any]]:
        """The auxiliary branch and the last layers learn at the full rate, inherited layers at a share of it; gains and
        offsets do not decay."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for module in self._modules():
            for name, value in module.named_parameters():
                new = module is self.auxiliary or name.endswith(_NEW)
                share = 1.0 if new or not self.config.inherit else self.config.inherited
                groups.setdefault((share, value.ndim > 1), []).append(value)
        return [
            {"params": values, "share": share, "weight_decay": self.config.decay if decays else 0.0}
            for (share, decays), values in groups.items()
        ]

    def _hold(self) -> None:
        state = {
            "config": dataclasses.asdict(self.config),
            "facts": self.facts,
            "step": self.step,
            "trained_s": self.trained_s,
            "modules": [module.state_dict() for module in self._modules()],
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(self.folder / "checkpoint.pt") as path:
            torch.save(state, path)

    def _restore(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["facts"] != self.facts:
            raise ValueError(f"{path}: of another recipe, other photos or another teacher; name another folder")
        self.step, self.trained_s = state["step"], state["trained_s"]
        for module, values in zip(self._modules(), state["modules"], strict=True):
            module.load_state_dict(values)
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def _digest(photos: Sequence[Photo], teacher: Path | None) -> str:
    """Of the photos' names and labels, and of the teacher's file: what a run must find again to go on."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.path.name.encode())
        for part in (photo.boxes, photo.labels, photo.ignored, photo.ignored_labels, photo.known):
            digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(b"" if teacher is None else teacher.read_bytes())
    return digest.hexdigest()


def as_input(pictures: Tensor) -> Tensor:
    """uint8 [b, h, w, 3] to what the detector takes, float32 [b, 3, h, w]: the pixels are left as they lie."""
    return pictures.permute(0, 3, 1, 2).float()


def trained(folder: Path) -> tuple[Config, Detector, dict[str, Any]]:
    """The averaged detector of a run's checkpoint, its recipe, and its step and seconds of training."""
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    config = Config(**{**state["config"], "classes": tuple(state["config"]["classes"])})
    detector = Detector(len(config.classes))
    detector.load_state_dict(state["average"])
    return config, detector.eval(), {"step": state["step"], "trained_s": state["trained_s"]}


def _norm_pictures(photos: Sequence[Photo], config: Config) -> Tensor:
    chosen = photos[:: max(1, len(photos) // _NORM_PHOTOS)][:_NORM_PHOTOS]
    pixels = [_centred(photo, config) for photo in chosen]
    return as_input(torch.stack(pixels))


def _centred(photo: Photo, config: Config) -> Tensor:
    return torch.from_numpy(centred(photo, read_photo(photo.path), config.height, config.width).picture)


def _told(losses: Losses) -> dict[str, float]:
    return {"scores": losses.scores.item(), "boxes": losses.boxes.item(), "sides": losses.sides.item()}
