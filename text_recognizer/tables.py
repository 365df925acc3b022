"""The classes that files and flags may name. To add a model or a data set, write its module and
list its class here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from text_recognizer.data.base_data_module import BaseDataModule, DataConfig
from text_recognizer.data.digits import Digits
from text_recognizer.data.fashion_mnist import FashionMNIST
from text_recognizer.data.mnist import MNIST
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.models.cnn import CNN
from text_recognizer.models.mlp import MLP
from text_recognizer.registry import Registry, hyperparameters

DATASETS: Registry[BaseDataModule] = Registry("data set", MNIST, FashionMNIST, Digits)
MODELS: Registry[nn.Module] = Registry("model", MLP, CNN)
LIT_MODELS: Registry[BaseLitModel] = Registry("lit model", BaseLitModel)


def build_model(settings: Mapping[str, Any], data: DataConfig) -> nn.Module:
    """The network that flat `settings` describe, for images and classes such as `data` has.

    Raises:
        InputError: the model is unknown, or one of its hyperparameters is out of its range.
    """
    cls = MODELS[settings["model_class"]]
    return cls(data.input_dims, len(data.mapping), **chosen(cls, settings))


def chosen(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of flat `settings` that are hyperparameters of `cls`."""
    return {name: settings[name] for name in hyperparameters(cls) if name in settings}
