"""Digits: the 1,797 handwritten digits in scikit-learn, resized to MNIST's 28x28. No download."""

import torch
from torch.nn.functional import interpolate

from text_recognizer.data.base_data_module import BaseDataModule, DataConfig, load_and_print
from text_recognizer.data.util import BaseDataset, split

TEST_SIZE = 360
TEST_SPLIT_SEED = 7


class Digits(BaseDataModule):
    """1,437 training images (360 of them for validation) and 360 test images by 43 writers."""

    config = DataConfig((1, 28, 28), tuple("0123456789"), mean=0.3055, std=0.3250)
    trainval_size = 1_437
    val_size = 360

    def load_trainval(self) -> BaseDataset:
        return _read(0)

    def load_test(self) -> BaseDataset:
        return _read(1)


def _read(part: int) -> BaseDataset:
    """The examples for training and validation (0) or for the test (1)."""
    # Imported here: it takes 0.65 s, and no worker of a search on MNIST needs it.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)  # (1797, 64) floats from 0 to 16
    small = torch.from_numpy(pixels).float().view(-1, 1, 8, 8)
    images = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False) * (255 / 16)
    examples = BaseDataset(images.round().to(torch.uint8), torch.from_numpy(labels).long())
    return BaseDataset(*examples[split(len(examples), TEST_SIZE, TEST_SPLIT_SEED)[part]])


if __name__ == "__main__":
    load_and_print(Digits)
