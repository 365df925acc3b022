"""FashionMNIST: pictures of clothes in MNIST's format."""

import torchvision

from text_recognizer.data.base_data_module import DataConfig, load_and_print
from text_recognizer.data.mnist import MNIST


class FashionMNIST(MNIST):
    """60,000 training (5,000 of them for validation) and 10,000 test pictures of clothes, 28x28."""

    archives = torchvision.datasets.FashionMNIST.resources
    contents = (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    )
    # The repository of the authors: torchvision's own mirror is plain http.
    mirror = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
    config = DataConfig(
        (1, 28, 28), tuple(torchvision.datasets.FashionMNIST.classes), mean=0.2860, std=0.3530
    )


if __name__ == "__main__":
    load_and_print(FashionMNIST)
