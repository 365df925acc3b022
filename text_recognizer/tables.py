"""The classes that files and flags may name. A new one needs its module and a line here."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from text_recognizer.data.base_data_module import BaseDataModule, DataConfig
from text_recognizer.data.digits import Digits
from text_recognizer.data.fashion_mnist import FashionMNIST
from text_recognizer.data.mnist import MNIST
from text_recognizer.models.cnn import CNN
from text_recognizer.models.mlp import MLP
from text_recognizer.registry import Registry, hyperparameters

# The tables are closed: a file that could name any class to import could run any code.
DATASETS: Registry[BaseDataModule] = Registry("data set", MNIST, FashionMNIST, Digits)
MODELS: Registry[nn.Module] = Registry("model", MLP, CNN)


def build_model(settings: Mapping[str, Any], data: DataConfig) -> nn.Module:
    """Build the network of flat `settings`, for images and classes like those of `data`.

    Raises:
        InputError: the model is unknown, or a hyperparameter is out of its range.
        KeyError: the settings name no model.
    """
    cls = MODELS[settings["model_class"]]
    return cls(data.input_dims, len(data.mapping), **chosen(cls, settings))


def chosen(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The flat `settings` that are hyperparameters of `cls`."""
    return {name: settings[name] for name in hyperparameters(cls) if name in settings}
