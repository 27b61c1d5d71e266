"""Noise taken from images by a U-Net, trained with three losses (Karshenas, section 4, table 5 and figure 5)."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import field_validator
from pydantic.dataclasses import dataclass

from ddl.data.noise import noisy, noisy_copy
from ddl.data.pairs import Pairs
from ddl.data.sets import cifar10
from ddl.devices import Device, derive_seed
from ddl.learners.optimisers import make_optimiser
from ddl.learners.translation import TranslationEvaluation, TranslationLearner
from ddl.metrics.images import check_window, make_loss, psnr_db, squared_error, ssim
from ddl.models.preprocess import ScaleToUnit
from ddl.models.unet import UNet
from ddl.progress import Progress, State
from ddl.tasks.image_task import ImageTask, UNetWidths
from ddl.tasks.task import STRICT, Count, Positive

CHANNELS, SIZE, _ = cifar10.SHAPE
STUDIED = "Tiny ImageNet"
"""What the study denoises. Here the task takes CIFAR-10, which stands in for it, and says so."""
SHOWN = 8
"""Images of the figure: the first of the validation split."""


@dataclass(frozen=True, config=STRICT)
class Denoising(ImageTask):
    data_sets: ClassVar[tuple[str, ...]] = ("cifar10",)

    data_set: Literal["cifar10"]
    noise: Positive
    """Standard deviation of the Gaussian noise on every value, pixels being in 0..1."""
    loss: Literal["mae", "ssim", "psnr"]
    """`ssim`: 1 - SSIM. `psnr`: 1 / PSNR."""
    ssim_window: Count
    """Side of the window that `ssim` compares, in pixels. The metric's is always 11."""
    widths: UNetWidths

    @field_validator("ssim_window")
    @classmethod
    def _fits(cls, window: int) -> int:
        check_window(window, SIZE)
        return window

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        # Validation has its own noise, the same after every epoch and in every trial of a seed.
        val = Pairs(noisy_copy(data.val.inputs, self.noise, derive_seed(self.seed, "noise", 0)), data.val.inputs)
        prepare = ScaleToUnit(SIZE)
        criterion = make_loss(self.loss, self.ssim_window)
        examination = TranslationEvaluation(
            prepare,
            measures={"loss": criterion, "mse": squared_error, "psnr_db": psnr_db, "ssim": ssim},
            baselines={"noisy/mse": squared_error, "noisy/psnr_db": psnr_db, "noisy/ssim": ssim},
            shown=(val.given[:SHOWN], val.wanted[:SHOWN]),
            captions=("noisy", self.loss, "clean"),
            device=device,
        )
        model = UNet(CHANNELS, CHANNELS, SIZE, self.widths)
        network = self.optimised(model, make_optimiser("adam", self.lr), data.train, device)
        learner = TranslationLearner(network, lambda images: noisy(prepare(images), self.noise), criterion, examination)
        train = Pairs(data.train.inputs, data.train.inputs)
        metadata = self.metadata(data, [model])
        metadata["data"]["fallback_for"] = f"{STUDIED}, and {data.origin.fallback_for}" if data.origin.fallback_for else STUDIED
        yield from self.train(learner, train, val, device, metadata, resume)
