"""Batches of augmented photos, each a function of the seed and the number of its step alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import augment
import cv2
import numpy as np
import torch
from augment import CELL, Canvas, Picture, Sample
from gelan import STRIDES
from loss import Truth
from numpy.typing import NDArray
from photos import Photo
from torch.utils.data import DataLoader, Dataset

from edge_sdk.sources.files import read_photo


@dataclass(frozen=True, eq=False)
class Batch:
    """uint8 pictures [b, h, w, 3], BGR, and their labels."""

    pictures: NDArray[np.uint8]
    truth: Truth


@dataclass(frozen=True)
class Recipe:
    """How batches are made.

    Args:
        height, width: Of the pictures, in pixels.
        batch: Pictures a step.
        mosaic: Part of the pictures that are mosaics, 0 to 1.
        plain_from: From this step on there are none, and photos are only scaled a little: as in use.
        shares: How often a photo of a source is drawn, relative to 1.
        seed: Of all draws.
    """

    height: int
    width: int
    batch: int
    mosaic: float
    plain_from: int
    shares: Mapping[str, float]
    seed: int


class Steps(Dataset[Batch]):
    """The batch of each step. Photos are decoded once and kept."""

    def __init__(self, photos: Sequence[Photo], recipe: Recipe) -> None:
        self.photos, self.recipe = list(photos), recipe
        strange = set(recipe.shares) - {photo.source for photo in photos}
        if strange or not photos:
            raise ValueError(
                f"no photo to train on is of the source {sorted(strange)[0]!r}" if strange else "no photos"
            )
        self._pixels = [read_photo(photo.path) for photo in self.photos]
        shares = np.array([recipe.shares.get(photo.source, 1.0) for photo in self.photos])
        self._chances = shares / shares.sum()

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(0)
        random = np.random.default_rng([self.recipe.seed, step])
        return collate([self._sample(step, random) for _ in range(self.recipe.batch)])

    def _sample(self, step: int, random: np.random.Generator) -> Sample:
        def draw() -> tuple[Photo, Picture]:
            index = random.choice(len(self.photos), p=self._chances)
            return self.photos[index], self._pixels[index]

        recipe = self.recipe
        canvas = Canvas(recipe.height, recipe.width, len(self.photos[0].known))
        if step >= recipe.plain_from:
            augment.one(canvas, draw, random, 0.8, 1.3)
        elif random.random() < recipe.mosaic:
            augment.mosaic(canvas, draw, random)
        else:
            augment.one(canvas, draw, random)
        sample = augment.flipped(canvas.sample(), random)
        return dataclasses.replace(sample, picture=augment.looks(sample.picture, random))


def batches(photos: Sequence[Photo], recipe: Recipe, first: int, end: int, workers: int) -> Iterator[Batch]:
    """The batches of steps `first` to `end`, made ahead by worker processes."""
    loader = DataLoader(
        Steps(photos, recipe),
        sampler=range(first, end),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size to a batch; labels padded to the longest."""
    longest = max(len(sample.labels) for sample in samples)
    boxes = torch.zeros(len(samples), longest, 4)
    labels = torch.zeros(len(samples), longest, dtype=torch.int64)
    real = torch.zeros(len(samples), longest, dtype=torch.bool)
    for i, sample in enumerate(samples):
        n = len(sample.labels)
        boxes[i, :n] = torch.from_numpy(sample.boxes)
        labels[i, :n] = torch.from_numpy(sample.labels)
        real[i, :n] = True
    weights = torch.stack([torch.from_numpy(at_places(sample.weights)) for sample in samples])
    return Batch(np.stack([sample.picture for sample in samples]), Truth(boxes, labels, real, weights))


def at_places(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights of the cells [h / 8, w / 8, c] in which the places' centres lie: [n, c], stride by stride."""
    rows = []
    for stride in STRIDES:
        step = stride // CELL
        rows.append(weights[step // 2 :: step, step // 2 :: step].reshape(-1, weights.shape[2]))
    return np.concatenate(rows)
