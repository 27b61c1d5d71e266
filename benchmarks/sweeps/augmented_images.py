"""Images that torchvision augments one by one, for the naive baseline."""

import math

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ddl.data.augment import STRENGTHS
from ddl.data.splits import Split


class AugmentedImages(Dataset):
    """PIL images, padded by reflection as far as the augmentation reaches, with their labels."""

    def __init__(self, split: Split, augmentation: str):
        strength, side = STRENGTHS[augmentation], split.inputs.shape[-1]
        angle = min(strength.rotation, math.pi / 4)
        reach = (1 + strength.zoom) * (math.cos(angle) + math.sin(angle)) / 2 + strength.translation
        padding = min(math.ceil((reach - 0.5) * side), side - 1)
        padded = v2.functional.pad(split.inputs, padding, padding_mode="reflect")
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in padded]
        self.targets = split.targets.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomAffine(
                    degrees=math.degrees(strength.rotation),
                    translate=(strength.translation * side / (side + 2 * padding),) * 2,
                    scale=(1 / (1 + strength.zoom), 1 / (1 - strength.zoom)),
                    interpolation=v2.InterpolationMode.BILINEAR,
                ),
                v2.CenterCrop(side),
                v2.RandomHorizontalFlip(strength.flip),
                v2.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.targets[index]
