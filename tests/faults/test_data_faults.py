"""Data that is damaged, wanted by many at once, or out of reach. `test_data.py` has what one data
set does when its download is cut or wrong, or an archive is damaged; here is what the command makes
of it, and what several processes do.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirror import LIMIT_S, MirrorServer, archives, digest, small_mnist
from text_recognizer.command import exit_code_of
from tuning import search
from tuning.space.reader import read_space
from tuning.verification.preflight import prepare_data

ROOT = Path(__file__).resolve().parents[2]
EIGHT = 8

SPACE = "space:\n  fc1: {type: int, low: 8, high: 64}\n"

# One process begins to download and is killed when a line is read. Then many begin together; each
# prepares the data, reads it and says what it read.
PREPARE = """
import json, multiprocessing, sys
from pathlib import Path
from tests.mirror import digest, small_mnist
from text_recognizer.data import mnist  # takes seconds, and is done once for all of them

def work(barrier, told, folder, url):
    try:
        barrier.wait()
        data = small_mnist(Path(folder), url)
        data.prepare_data()
        told.put(digest(data))
    except BaseException as error:
        told.put(repr(error))

context = multiprocessing.get_context("fork")
count, told = int(sys.argv[1]), context.Queue()
victim = context.Process(target=work, args=(context.Barrier(1), told, *sys.argv[2:]))
victim.start()
sys.stdin.readline()
victim.kill()
victim.join()
barrier = context.Barrier(count)
workers = [context.Process(target=work, args=(barrier, told, *sys.argv[2:])) for _ in range(count)]
for worker in workers:
    worker.start()
print(json.dumps([told.get(timeout=60) for _ in workers]))
for worker in workers:
    worker.join()
"""


@pytest.fixture
def command_folder(no_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands of a test run: a space file, and nothing else."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("damage", ["cut in half", "one bit", "other content", "empty", "a folder"])
def test_a_damaged_archive_ends_the_command_before_a_trial(
    damage: str, command_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    content = bytearray(archives()[path.name])
    match damage:
        case "cut in half":
            path.write_bytes(content[: len(content) // 2])
        case "one bit":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "other content":
            path.write_bytes(gzip.compress(b"nothing of MNIST's"))
        case "empty":
            path.touch()
        case "a folder":
            path.mkdir()
    arguments = ["--space", "space.yaml", "--data-class", "MNIST", "--data-dir", str(tmp_path)]
    assert exit_code_of(lambda: search.main(arguments)) == 7
    complained = capsys.readouterr().err
    assert complained.startswith(f"error: {path}: ")
    assert "Delete" in complained
    assert "Traceback" not in complained
    assert [found.name for found in command_folder.iterdir()] == ["space.yaml"]


def test_eight_processes_download_each_archive_once_after_one_died_in_the_middle(
    mirror_server: MirrorServer, tmp_path: Path
) -> None:
    # nothing is sent before all of them have found that there is nothing
    mirror_server.crowd = 1 + EIGHT
    target = tmp_path / "data"
    command = [sys.executable, "-c", PREPARE, str(EIGHT), str(target), mirror_server.url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert mirror_server.wait_for(
            lambda asked: any(request.startswith("GET") for request in asked)
        )
        in_vain = len(mirror_server.asked)
        said, _ = process.communicate("kill it\n", timeout=LIMIT_S)
    read = json.loads(said)
    downloads = [request for request in mirror_server.asked[in_vain:] if request.startswith("GET")]
    assert sorted(downloads) == sorted(f"GET /{name}" for name in archives())
    assert read == [digest(small_mnist(target))] * EIGHT
    left = {path.name for path in (target / "MNIST" / "raw").iterdir()}
    assert left == {".lock", *archives()}, "nothing is half-written"


def test_a_data_folder_that_can_be_none_is_bad_input(
    command_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (command_folder / "loop").symlink_to("loop")
    for folder in ("~nobody-of-this-name/data", "loop", "a\0b"):
        assert (
            exit_code_of(
                lambda folder=folder: search.main(["--space", "space.yaml", "--data-dir", folder])
            )
            == 2
        )  # type: ignore[misc]
        complained = capsys.readouterr().err
        assert complained.startswith("error: data_dir: `the path of a folder` must hold, but got ")
        assert len(complained.splitlines()) == 1


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every request of this process goes to a proxy that is not there."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    closed = dict.fromkeys(("http", "https"), "http://127.0.0.1:1/")
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler(closed)))
    yield
    urllib.request.install_opener(urllib.request.build_opener())


@pytest.mark.usefixtures("no_network")
def test_without_a_network_named_data_is_an_error_that_says_what_to_do(
    command_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--space",
        "space.yaml",
        "--data-class",
        "MNIST",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    assert exit_code_of(lambda: search.main(arguments)) == 7
    complained = capsys.readouterr().err
    for advice in (
        "MNIST is not complete in",
        "train-images-idx3-ubyte.gz",
        str(tmp_path / "data"),
        "--data-dir",
        "--data-class Digits",
    ):
        assert advice in complained
    assert "Traceback" not in complained
    assert [path.name for path in command_folder.iterdir()] == ["space.yaml"]


@pytest.mark.usefixtures("no_network")
def test_without_a_network_unnamed_data_is_digits_and_that_is_said(
    command_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA_DIR", str(tmp_path / "data"))
    space = read_space(command_folder / "space.yaml")
    notes: list[str] = []
    found, _ = prepare_data(space, None, notes.append)
    (note,) = notes
    assert found.experiment["data_class"] == "Digits"
    assert note.startswith(f"MNIST is not complete in {tmp_path / 'data' / 'MNIST' / 'raw'}: ")
    assert "the download failed: no answer from" in note
    assert "Searching on Digits instead" in note
