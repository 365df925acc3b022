"""The contract of every data set, and how its files are found, checked, downloaded and refused."""

from __future__ import annotations

import errno
import fcntl
import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins.precision import Precision
from torch.utils.data import DataLoader

from tests.mirror import archives, digest, idx, small_mnist
from tests.unlockable import unlockable
from text_recognizer.data import mnist
from text_recognizer.data.base_data_module import BaseDataModule, find_data_dir
from text_recognizer.data.digits import Digits
from text_recognizer.data.mnist import MNIST, answers, read_idx
from text_recognizer.data.util import BaseDataset, random_shift_and_rotation
from text_recognizer.errors import DataError, InputError
from text_recognizer.tables import DATASETS


@pytest.fixture(params=sorted(DATASETS))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> BaseDataModule:
    """Each registered data set. FashionMNIST's own archives are not here: the same code reads
    MNIST's under its name.
    """
    cls = DATASETS[request.param]
    if not issubclass(cls, MNIST):
        return cls(data_dir=str(tmp_path))
    mnist_dir: Path = request.getfixturevalue("mnist_dir")
    (tmp_path / request.param).symlink_to(mnist_dir / "MNIST")
    own = {"archives": MNIST.archives, "contents": MNIST.contents}
    return type(request.param, (cls,), own)(data_dir=str(tmp_path))


def test_training_and_validation_have_one_copy_of_the_data_on_a_device() -> None:
    data = Digits()
    device = torch.device("meta")  # stands for a GPU
    strategy = SimpleNamespace(root_device=device)
    data.trainer = SimpleNamespace(strategy=strategy)  # type: ignore[assignment]
    training, validation = data.train_dataloader(), data.val_dataloader()
    assert training.dataset is validation.dataset
    assert training.dataset.images.device == training.indices.device == device


def test_contract(data: BaseDataModule) -> None:
    channels, height, width = data.config.input_dims
    assert data.trainval.images.shape == (data.trainval_size, channels, height, width)
    assert data.trainval.images.dtype == torch.uint8
    assert set(data.trainval.labels.tolist()) == set(range(len(data.config.mapping)))

    training, validation = data.splits()
    assert len(validation) == data.val_size
    assert sorted(torch.cat([training, validation]).tolist()) == list(range(data.trainval_size)), (
        "a partition"
    )

    inputs, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert inputs.shape == (data.batch_size, channels, height, width)
    assert inputs.dtype == torch.float32
    assert labels.shape == (data.batch_size,)

    everything = data.on_after_batch_transfer((data.trainval.images, data.trainval.labels), 0)[0]
    # whose statistics are not those of the archives read here
    if type(data).__name__ != "FashionMNIST":
        assert abs(everything.mean()) < 0.01
        assert abs(everything.std() - 1) < 0.01
    assert sum(len(labels) for _, labels in data.val_dataloader()) == data.val_size
    assert sum(len(labels) for _, labels in data.train_dataloader()) == len(training)
    assert type(data).__name__ in str(data)


def test_mnist_has_lab_1s_sizes(mnist_dir: Path) -> None:
    data = MNIST(data_dir=str(mnist_dir))
    data.prepare_data()
    training, validation = data.splits()
    assert (len(training), len(validation), len(data.load_test())) == (55_000, 5_000, 10_000)


def test_mnist_is_read_as_torchvision_unpacks_it(mnist_dir: Path, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in (mnist_dir / "MNIST" / "raw").glob("*.gz"):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    data = MNIST(data_dir=str(tmp_path))
    data.prepare_data()
    assert digest(data) == digest(MNIST(data_dir=str(mnist_dir)))


def test_the_split_does_not_depend_on_the_training_seed() -> None:
    assert torch.equal(Digits(seed=1).splits()[1], Digits(seed=2).splits()[1])


def order(data: BaseDataModule, epoch: int) -> list[int]:
    data.trainer = SimpleNamespace(current_epoch=epoch)  # type: ignore[assignment]
    return data.shuffled(data.splits()[0]).tolist()


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert order(Digits(seed=1), 3) == order(Digits(seed=1), 3)
    assert order(Digits(seed=1), 3) != order(Digits(seed=1), 4)
    assert order(Digits(seed=1), 3) != order(Digits(seed=2), 3)
    assert sorted(order(Digits(seed=1), 3)) == sorted(Digits().splits()[0].tolist())


def test_a_final_training_sees_the_validation_examples_too() -> None:
    data = Digits()
    data.fold_validation_in = True
    assert len(order(data, 0)) == data.trainval_size


def test_a_dataset_serves_one_example_and_a_batch_alike() -> None:
    dataset = Digits().trainval
    images, labels = dataset[torch.tensor([5, 7])]
    assert torch.equal(images[1], dataset[7][0])
    assert labels[1] == dataset[7][1]
    batch = next(iter(DataLoader(dataset, batch_size=4)))  # type: ignore[arg-type]
    assert batch[0].shape == (4, 1, 28, 28)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images, but 2 labels"):
        BaseDataset(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("batch_size", [0, -8, 1078])
def test_a_batch_size_that_cannot_be_is_refused(batch_size: int) -> None:
    with pytest.raises(InputError, match="1 <= batch_size <= 1077"):
        Digits(batch_size=batch_size)


def test_augmentation_moves_each_image_by_its_own_amount_and_little() -> None:
    image = torch.zeros(1, 28, 28)
    image[:, 10:18, 10:18] = 1
    moved = random_shift_and_rotation(image.expand(64, 1, 28, 28))
    assert moved.shape == (64, 1, 28, 28)
    assert len({tuple(picture.flatten().tolist()) for picture in moved}) == 64
    assert (moved[:, :, 13:15, 13:15] > 0.999).all(), "the middle of an 8x8 block stays covered"
    assert torch.allclose(moved.mean((1, 2, 3)), image.mean(), rtol=0.05), (
        "nothing leaves the picture"
    )


def test_augmentation_is_for_training_alone() -> None:
    data = Digits(augment=True)
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(
        data.on_after_batch_transfer(batch, 0)[0], Digits().on_after_batch_transfer(batch, 0)[0]
    )
    data.trainer = SimpleNamespace(training=True, precision_plugin=Precision())  # type: ignore[assignment]
    assert not torch.equal(
        data.on_after_batch_transfer(batch, 0)[0], Digits().on_after_batch_transfer(batch, 0)[0]
    )


def test_the_data_folder_is_the_named_one_else_the_variable_else_the_projects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA_DIR", "/somewhere")
    assert find_data_dir("/named") == Path("/named")
    assert find_data_dir(None) == Path("/somewhere")
    monkeypatch.delenv("TEXT_RECOGNIZER_DATA_DIR")
    assert find_data_dir(None) == Path(__file__).resolve().parents[3] / "data"
    with pytest.raises(InputError, match=r"the path of a folder.*test_data\.py'\. That is a file"):
        find_data_dir(__file__)
    with pytest.raises(InputError, match="data_dir"):
        find_data_dir("")


def test_missing_archives_are_downloaded_checked_and_read(mirror: str, tmp_path: Path) -> None:
    data = small_mnist(tmp_path, mirror)
    data.prepare_data()
    assert data.load_trainval().images.shape == (12, 1, 28, 28)
    assert data.load_test().labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["short", "wrong"])
def test_a_bad_download_leaves_nothing_under_the_final_name(
    kind: str, mirror: str, tmp_path: Path
) -> None:
    if kind == "wrong":
        (tmp_path / "mirror" / "train-images-idx3-ubyte.gz").write_bytes(b"not what was asked for")
    data = small_mnist(tmp_path, mirror + ("short/" if kind == "short" else ""))
    with pytest.raises(DataError, match="md5"):
        data.prepare_data()
    assert not list((tmp_path / "MNIST" / "raw").glob("*.gz*"))
    assert not list((tmp_path / "MNIST" / "raw").glob(".*.gz*"))


NOWHERE = "http://127.0.0.1:1/"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with two archives, and the two other files unpacked."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in archives().items():
        if "train" in name:
            (raw / name).write_bytes(content)
        else:
            (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    return raw


def test_without_a_network_it_says_what_is_missing_and_what_to_do(
    raw: Path, tmp_path: Path
) -> None:
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as error:
        small_mnist(tmp_path, NOWHERE).prepare_data()
    for advice in (f"{raw}: t10k-labels-idx1-ubyte.gz missing", "--data-dir", "Digits"):
        assert advice in str(error.value)


def test_what_is_missing_is_downloaded_beside_unpacked_files(
    raw: Path, mirror: str, tmp_path: Path
) -> None:
    (raw / "t10k-labels-idx1-ubyte").unlink()
    before = {path.name for path in raw.iterdir()}
    small_mnist(tmp_path, mirror).prepare_data()
    assert {path.name for path in raw.iterdir()} - before == {".lock", "t10k-labels-idx1-ubyte.gz"}


def test_the_folder_may_be_named_too_deep_and_the_content_decides(
    raw: Path, tmp_path: Path
) -> None:
    expected = digest(small_mnist(tmp_path))
    # Of two files of a name one is sound; an archive was packed again, another is none.
    train, test = raw / "train-images-idx3-ubyte.gz", raw / "t10k-images-idx3-ubyte"
    train.with_suffix("").write_bytes(b"damaged")
    test.with_suffix(".gz").write_bytes(b"damaged")
    test.rename(raw / "t10k-images.idx3-ubyte")  # as Kaggle names it
    labels = raw / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), mtime=1))
    (raw / "t10k-labels-idx1-ubyte").rename(raw / "t10k-labels-idx1-ubyte.gz")
    for folder in (tmp_path, raw.parent, raw):
        data = small_mnist(folder, NOWHERE)
        data.prepare_data()
        assert digest(data) == expected


def test_another_data_sets_files_are_not_taken_for_damaged_ones(raw: Path, tmp_path: Path) -> None:
    for folder in (raw, raw.parent):
        with pytest.raises(DataError, match=r"FashionMNIST is not complete in .*FashionMNIST/raw"):
            type("FashionMNIST", (type(small_mnist(folder, NOWHERE)),), {})(
                data_dir=str(folder), batch_size=5
            ).prepare_data()


@pytest.mark.parametrize("damage", [b"", b"other content"])
def test_a_damaged_unpacked_file_is_noticed_before_it_is_read(
    damage: bytes, raw: Path, tmp_path: Path
) -> None:
    path = raw / "t10k-images-idx3-ubyte"
    path.write_bytes(damage)
    with pytest.raises(DataError, match=rf"{path}: `md5 .*Delete it"):
        small_mnist(tmp_path).prepare_data()


def test_a_wait_for_another_download_is_said_and_ends(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mnist, "LOCK_NOTE_S", 0.0)
    monkeypatch.setattr(mnist, "LOCK_LIMIT_S", 0.0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    with (raw / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process still holds"):
            small_mnist(tmp_path, mirror).prepare_data()
    assert f"note: {raw}: waiting for another process's download" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_folder_without_locks_is_downloaded_to(mirror: str, tmp_path: Path) -> None:
    for error in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
        data = small_mnist(tmp_path / str(error), mirror)
        unlockable(error, data.prepare_data)
        assert len(data.load_trainval()) == 12


def test_a_mirror_that_hangs_is_given_up(mirror: str) -> None:
    assert not answers(mirror + "hang/train-images-idx3-ubyte.gz", timeout_s=0.2)
    assert answers(mirror + "train-images-idx3-ubyte.gz")


def test_a_damaged_archive_is_noticed_before_it_is_read(mirror: str, tmp_path: Path) -> None:
    data = small_mnist(tmp_path, mirror)
    data.prepare_data()
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="Delete it"):
        data.prepare_data()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\0\0\x08\x03\0\0", mtime=0),
        idx(4)[:-9],
    ],
)
def test_an_archive_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.gz"):
        read_idx(path)


def test_archives_in_a_folder_that_cannot_be_written_are_used(mirror: str, tmp_path: Path) -> None:
    data = small_mnist(tmp_path, mirror)
    data.prepare_data()
    before = sorted((tmp_path / "MNIST" / "raw").iterdir())
    small_mnist(tmp_path, NOWHERE).prepare_data()
    assert sorted((tmp_path / "MNIST" / "raw").iterdir()) == before
