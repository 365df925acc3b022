"""`tests/recorded/before`: a run of the version before the packages (2026-11-27): six trials on
Digits, 4 epochs, retrained with two seeds. Every command must still read it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.processes import ROOT, run
from text_recognizer.command import exit_code_of
from text_recognizer.data.digits import Digits
from text_recognizer.predict import Recognizer
from tuning import report, runs, search
from tuning.run.files import FinalMetrics
from tuning.run.folder import open_run
from tuning.run.reading import read_existing
from tuning.study.optuna_record import get_attr, open_study

RECORDED = ROOT / "tests" / "recorded" / "before"
BEST = json.loads((RECORDED / "summary.json").read_text())["best"]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A copy of the run, as `tmp_path/runs/before`."""
    return Path(shutil.copytree(RECORDED, tmp_path / "runs" / "before"))


def test_it_is_listed_and_reported(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.main(["--runs-dir", str(before.parent), "--json"])
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["status"], listed["best"]["value"]) == (
        "before",
        "complete",
        BEST["value"],
    )
    report.main([str(before)])
    assert f"{BEST['value']:.4f}" in (before / "report.html").read_text()
    capsys.readouterr()
    report.main([str(before), "--json"])
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["summary"]["best"] == BEST
    assert len(numbers["trials"]) == 6


def test_it_cannot_be_continued(
    before: Path, no_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code that makes its numbers has changed since."""
    assert exit_code_of(lambda: search.main(["--resume", str(before), "--trials", "9"])) == 4
    assert "code.text_recognizer.models.mlp" in capsys.readouterr().err


def test_its_weights_are_loaded_and_have_the_accuracy_they_had(before: Path) -> None:
    data = Digits()
    images, labels = data.trainval[data.splits()[1]]
    hits = Recognizer.load(before / "best.ckpt").probabilities(images).argmax(1) == labels
    assert hits.to(torch.float32).mean().item() == pytest.approx(BEST["value"])


def test_it_is_retrained_a_second_time(before: Path, tmp_path: Path) -> None:
    """The best config alone, with the first of its two seeds: the same numbers, as far as another
    CPU computes the same.
    """
    first = read_existing(before / "final/metrics.json", FinalMetrics)
    (before / "final/of an older one").touch()
    ran = run([str(ROOT / "tuning/retrain.py"), "runs/before", "--seeds", "1"], tmp_path)
    assert ran.process.returncode == 0, ran.errors
    second = read_existing(before / "final/metrics.json", FinalMetrics)
    assert [first.test_reads, second.test_reads] == [1, 2]
    assert "note: the test set has been read 2 times for this run" in ran.output
    assert second.promised == BEST["value"]
    assert (second.candidates, second.test_acc_std) == ([], None)
    for one, again in ((first, second), (first.baseline, second.baseline)):
        (seed,) = again.per_seed
        assert seed.test_acc == pytest.approx(one.per_seed[0].test_acc, abs=0.01)
    assert not (before / "final/of an older one").exists()
    record = open_study(open_run(before))
    assert get_attr(record, "test_reads") == 2
