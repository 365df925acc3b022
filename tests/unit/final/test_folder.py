"""`final/` is whole or not there, and its card says what it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import shapes
from text_recognizer.data.digits import Digits
from text_recognizer.errors import StorageError
from text_recognizer.models.mlp import MLP
from text_recognizer.predict import Recognizer
from tuning.analysis.run_data import RunData
from tuning.final import folder as final_folder
from tuning.final.candidates import Config
from tuning.final.folder import mend_final, replace_final, write_final
from tuning.final.model_card import model_card
from tuning.run.folder import RunFolder
from tuning.space.reader import read_space

CONFIG = Config(7, {"model_class": "MLP", "data_class": "Digits", "fc1": 8}, 3, 0.91)


def a_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "content").write_text(content)
    return path


def test_nothing_in_the_model_card_is_markup_but_the_cards_own(
    search: RunData, tmp_path: Path
) -> None:
    text = 'space:\n  optimizer: {type: categorical, choices: [Adam, "a`|b\\n# <script>"]}\n'
    (tmp_path / "space.yaml").write_text(text)
    strange = replace(
        search, space=read_space(tmp_path / "space.yaml"), path=Path("run`\n# not a heading")
    )
    recognizer = Recognizer(MLP((1, 28, 28), 10, fc1=8, fc2=4), Digits.config)
    card = model_card(recognizer, CONFIG, metrics(), strange)
    headings = ("How it was found", "Training", "Results", "Intended use and limits")
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "# MLP for `Digits`",
        *(f"## {heading}" for heading in (*headings, "How to load it")),
    ]
    assert "`Adam, a'\\|b\\n# <script>`" in card
    assert "`run'\\n# not a heading`" in card
    assert "0.9700 ± 0.2000" in card
    assert "one centred digit" in card
    assert "CC BY 4.0" in card


def metrics() -> Any:
    seed = {"seed": 0, "test_acc": 0.9, "test_loss": 0.3}
    found = shapes.final().model_dump() | {"per_seed": [seed], "seeds": [0, 1]}
    return type(shapes.final()).model_validate(found)


@pytest.mark.parametrize("old", ["none", "one", "one, and another's leftovers"])
def test_a_new_folder_takes_the_place_of_the_old_one(old: str, run: RunFolder) -> None:
    if old != "none":
        a_folder(run.final, "old")
    if "leftovers" in old:
        a_folder(run.path / "final.old", "older")
        mend_final(run)
    replace_final(run, a_folder(run.path / "new", "new"))
    assert (run.final / "content").read_text() == "new"
    assert list(run.path.glob("*.old")) == []


def test_a_final_folder_that_was_moved_away_and_not_replaced_is_put_back(run: RunFolder) -> None:
    a_folder(run.path / "final.old", "old")
    a_folder(run.path / ".final.killed", "half")
    mend_final(run)
    assert (run.final / "content").read_text() == "old"
    assert [path.name for path in run.path.glob("*final*")] == ["final"]


def test_an_old_folder_that_was_replaced_is_deleted(run: RunFolder) -> None:
    a_folder(run.path / "final.old", "old")
    a_folder(run.final, "new")
    mend_final(run)
    assert (run.final / "content").read_text() == "new"
    assert [path.name for path in run.path.glob("*final*")] == ["final"]


def test_a_final_folder_that_cannot_be_replaced_stays(run: RunFolder) -> None:
    a_folder(run.final, "old")
    with pytest.raises(OSError, match="No such file"):
        replace_final(run, run.path / "new")
    assert (run.final / "content").read_text() == "old"


def test_a_full_disk_leaves_the_old_folder(
    run: RunFolder, search: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(final_folder, "checksum", full)
    a_folder(run.final, "old")
    (tmp_path / "0.ckpt").touch()
    with pytest.raises(StorageError, match="No space left"):
        write_final(run, tmp_path / "0.ckpt", CONFIG, metrics(), search)
    assert (run.final / "content").read_text() == "old"
