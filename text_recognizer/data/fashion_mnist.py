"""FashionMNIST: pictures of clothes in MNIST's format."""

import torchvision

from text_recognizer.data.base_data_module import DataConfig, load_and_print
from text_recognizer.data.mnist import MNIST


class FashionMNIST(MNIST):
    """60,000 training (5,000 of them for validation) and 10,000 test pictures of clothes, 28x28."""

    archives = torchvision.datasets.FashionMNIST.resources
    # The repository of the authors: torchvision's own mirror is plain http.
    mirror = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
    config = DataConfig(
        (1, 28, 28), tuple(torchvision.datasets.FashionMNIST.classes), mean=0.2860, std=0.3530
    )


if __name__ == "__main__":
    load_and_print(FashionMNIST)
