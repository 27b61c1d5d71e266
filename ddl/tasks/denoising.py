"""Denoising of images with a U-Net and three losses (Karshenas, section 4, table 5 and figure 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator
from pydantic.dataclasses import dataclass

from ddl.data.shapes import CIFAR10_SHAPE
from ddl.metrics.limits import check_window
from ddl.progress import Progress, State
from ddl.tasks.image_task import ImageTask, UNetWidths
from ddl.tasks.task import STRICT, Count, Positive

if TYPE_CHECKING:
    from ddl.data.splits import Split
    from ddl.devices import Device

CHANNELS, SIZE, _ = CIFAR10_SHAPE
STUDY_DATA_SET = "Tiny ImageNet"
"""The study's data set; this task uses CIFAR-10 as a fallback and records that in its metadata."""
SHOWN = 8
"""Number of images in the figure, the first of the validation split."""


@dataclass(frozen=True, config=STRICT)
class Denoising(ImageTask):
    """Trains a U-Net to remove Gaussian noise from CIFAR-10 images (Karshenas, section 4, table 5, figure 5)."""

    data_sets: ClassVar[tuple[str, ...]] = ("cifar10",)
    holds_out: ClassVar[bool] = True

    data_set: Literal["cifar10"]
    """Data set to train and validate on."""
    noise: Positive
    """Standard deviation of the Gaussian noise, above 0, for pixels in 0..1."""
    loss: Literal["mae", "ssim", "psnr"]
    """Loss per image: mean absolute error, 1 - SSIM, or 1 / PSNR in dB."""
    ssim_window: Count
    """Side of the window of the `ssim` loss in pixels, odd, 3 to 31; the `ssim` metric always uses 11."""
    widths: UNetWidths
    """Channels of the U-Net at each resolution, 1 to 6 numbers; each resolution after the first halves the image."""

    @field_validator("ssim_window")
    @classmethod
    def _fits_image(cls, window: int) -> int:
        check_window(window, SIZE)
        return window

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        from ddl.data.noise import noisy
        from ddl.data.splits import Split
        from ddl.learners.optimisers import make_optimiser
        from ddl.learners.translation import TranslationEvaluation, TranslationLearner
        from ddl.metrics.images import make_loss, psnr_db, squared_error, ssim
        from ddl.models.preprocess import ScaleToUnit
        from ddl.models.unet import UNet

        data = self.load(self.data_set, device)
        # The noise is fixed, so that all epochs, and all trials with one seed, are evaluated on the same images.
        val = self._noisy(data.val, 0)
        test = None if data.test is None else self._noisy(data.test, 1)
        prepare = ScaleToUnit(SIZE)
        criterion = make_loss(self.loss, self.ssim_window)
        evaluation = TranslationEvaluation(
            prepare,
            measures={"loss": criterion, "mse": squared_error, "psnr_db": psnr_db, "ssim": ssim},
            baselines={"noisy/mse": squared_error, "noisy/psnr_db": psnr_db, "noisy/ssim": ssim},
            shown=(val.inputs[:SHOWN], val.targets[:SHOWN]),
            captions=("noisy", self.loss, "clean"),
            device=device,
        )
        model = UNet(CHANNELS, CHANNELS, SIZE, self.widths)
        network = self.optimised(model, make_optimiser("adam", self.lr), data.train, device)
        learner = TranslationLearner(network, lambda images: noisy(prepare(images), self.noise), criterion, evaluation)
        train = Split(data.train.inputs, data.train.inputs)
        metadata = self.metadata(data, [model])
        metadata["data"]["fallback_for"] = ", and ".join(filter(None, [STUDY_DATA_SET, data.origin.fallback_for]))
        yield from self.train(learner, train, val, device, metadata, resume, test)

    def _noisy(self, split: Split, number: int) -> Split:
        """Noisy images and the clean ones. The noise depends on the seed and on the split's `number`."""
        from ddl.data.noise import noisy_copy
        from ddl.data.splits import Split
        from ddl.devices import derive_seed

        return Split(noisy_copy(split.inputs, self.noise, derive_seed(self.seed, "noise", number)), split.inputs)
