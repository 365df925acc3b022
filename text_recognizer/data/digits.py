"""Digits: scikit-learn's embedded 1,797 handwritten digits, resized to MNIST's 28x28. Needs no
network, ever.
"""

from __future__ import annotations

import sys

import torch
from torch.nn.functional import interpolate

from text_recognizer.command import exit_code_of
from text_recognizer.data.base_data_module import BaseDataModule, DataConfig, load_and_print
from text_recognizer.data.util import BaseDataset, split

TEST_SIZE = 360
TEST_SPLIT_SEED = 7


class Digits(BaseDataModule):
    """1,437 training (360 of them for validation) and 360 test images; 43 writers, 8x8 pixels
    scaled up.
    """

    config = DataConfig((1, 28, 28), tuple("0123456789"), mean=0.3055, std=0.3250)
    trainval_size = 1_437
    val_size = 360

    def load_trainval(self) -> BaseDataset:
        examples = _all_examples()
        return BaseDataset(*examples[split(len(examples), TEST_SIZE, TEST_SPLIT_SEED)[0]])

    def load_test(self) -> BaseDataset:
        examples = _all_examples()
        return BaseDataset(*examples[split(len(examples), TEST_SIZE, TEST_SPLIT_SEED)[1]])


def _all_examples() -> BaseDataset:
    # here: it takes half a second, which no worker has to spend
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)  # (1797, 64) floats from 0 to 16
    small = torch.from_numpy(pixels).float().view(-1, 1, 8, 8)
    images = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False) * (255 / 16)
    return BaseDataset(images.round().to(torch.uint8), torch.from_numpy(labels).long())


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: load_and_print(Digits)))
