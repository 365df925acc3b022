"""A real search as a person sees it: in a terminal, in its live report, in Ray's dashboard,
optuna-dashboard and TensorBoard.

All tests share one search and run in their order. The last ones interrupt and resume it.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.conftest import Open
from tests.browser.terminal import LIMIT_S, ROOT, Terminal

SEARCH = str(ROOT / "tuning" / "search.py")
BIN = Path(sys.executable).parent
TRIES = 20
SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
  lr: {type: float, low: 1e-3, high: 1e-2, log: true}
search: {trials: 5000, max_epochs: 9}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seen")
    (folder / "tiny.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def terminal(place: Path) -> Iterator[Terminal]:
    """A search with two trials at once, and with more trials than it can ever run."""
    opened = Terminal(
        [SEARCH, "--space", "tiny.yaml", "--gpus-per-trial", "0.5", "--name", "seen"], place
    )
    yield opened
    opened.close()


def test_the_terminal_shows_the_trials_that_run_and_the_search_as_a_whole(
    terminal: Terminal, pictures: Path | None
) -> None:
    terminal.wait_for(r"\d+ +1/9 +0\.\d{4} +waiting")
    terminal.wait_for(r"\d+ +9/9 +0\.\d{4} +complete")
    terminal.wait_for(r"trial +epoch +val_acc +status +fc1 +lr")
    terminal.wait_for(r"\d+ +\d/9 +(0\.\d{4})? +running +\d+ +0\.00")
    terminal.wait_for(r"\d+ of 5000 trials ended, \d+ wait  ·  best 0\.\d{4} \(trial \d+\)")
    terminal.wait_for(r"\d+ epochs trained, up to \d+ skipped by early stopping")
    terminal.wait_for(r"of \d+ slots in use  ·  \d+s gone")
    terminal.wait_for(r"gone, (about )?\S+ (to \S+ )?left")
    assert "\x1b[" in terminal.screen(colours=True)
    if pictures:
        (pictures / "terminal.ansi").write_text(terminal.screen(colours=True, above=60))


def test_the_live_report_grows_while_the_search_runs(
    terminal: Terminal, window: Open, place: Path
) -> None:
    terminal.wait_for(r"\d+ +\d/9 +0\.\d{4} +(complete|waiting)")
    page = window()
    page.goto((place / "runs/seen/report.html").as_uri())
    page.wait_for_selector("body[data-reload][data-drawn]")
    before = page.locator("#leaderboard tbody tr").count()
    # on a busy machine the driver pauses for long between two reports
    page.locator(f"#leaderboard tbody tr:nth-child({before + 1})").wait_for(timeout=LIMIT_S * 1000)


def output_of(command: str, place: Path) -> str:
    """The output of a command that the search printed for the user."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        shlex.split(command), cwd=place, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_rays_dashboard_asks_for_the_token_and_shows_the_job_the_actors_and_their_trials(
    terminal: Terminal, window: Open, place: Path, pictures: Path | None
) -> None:
    url = terminal.wait_for(r"dashboard (http://127\.0\.0\.1:\d+)")[1]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/api/jobs/")
    token = output_of(terminal.wait_for(r"asks for a token: (.*get-auth-token)")[1], place).strip()
    page = window(strict=False, offline=False)
    page.goto(url)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Authentication Token Required").wait_for()
    dialog.locator("input").fill(token)
    dialog.get_by_role("button", name="Submit").click()
    dialog.wait_for(state="hidden")
    page.goto(f"{url}/#/jobs")
    page.get_by_text("search.py --space tiny.yaml").first.wait_for()
    page.get_by_role("link", name="Actors").click()
    row = (
        page.locator("tr", has_text="ALIVE").filter(has=page.get_by_text("tiny", exact=True)).first
    )
    row.wait_for()
    if pictures:
        page.screenshot(path=pictures / "ray.png")
    row.get_by_role("link").first.click()
    line = page.get_by_text(re.compile(r"trial \d+: fc1=\d+, lr=0\.00")).first
    # Ray's own page does so at times; a person loads it again
    failed = page.get_by_text("Failed to load").first
    for _ in range(TRIES):
        line.or_(failed).first.wait_for()
        if line.is_visible():
            break
        page.reload()
    assert line.is_visible()


@contextmanager
def served(command: str, place: Path) -> Iterator[str]:
    """Start a dashboard on a free port, with the command that the search printed. Yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [*shlex.split(command), "--port", str(port)], cwd=place, env=environment, **quiet
    )  # type: ignore[call-overload]
    try:
        while True:  # until it answers
            assert process.poll() is None, f"`{command}` ended"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
                break
            except urllib.error.URLError:
                continue
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_optuna_dashboard_opens_the_study_of_a_running_search(
    terminal: Terminal, window: Open, place: Path, pictures: Path | None
) -> None:
    terminal.wait_for(r"[1-9]\d* of 5000 trials ended, ([4-9]|\d\d) wait")
    command = terminal.wait_for(r"study +(\S*optuna-dashboard \S+)")[1]
    page = window(strict=False, offline=False)
    with served(command, place) as url:
        page.goto(url)
        page.get_by_text("seen").first.click()
        for words in ("Hyperparameter Importance", "Best Trial", "Timeline"):
            page.get_by_text(words).first.wait_for()
        for parameter in ("fc1", "lr"):
            page.locator("svg").get_by_text(parameter, exact=True).first.wait_for()
        if pictures:
            page.screenshot(path=pictures / "optuna.png")
        page.locator("a[href$='/trials']").first.click()
        for state in ("Complete", "Running"):
            page.get_by_text(re.compile(rf"^{state}$")).first.wait_for()


def test_tensorboard_has_the_curves_and_the_hyperparameters(
    terminal: Terminal, window: Open, place: Path, pictures: Path | None
) -> None:
    terminal.wait_for(r"[1-9]\d* of 5000 trials ended, ([2-9]|\d\d) wait")
    command = terminal.wait_for(r"curves +(\S*tensorboard --logdir \S+)")[1]
    page = window(strict=False, offline=False)
    with served(command, place) as url:
        page.goto(f"{url}/#hparams")
        page.get_by_text("Table View", exact=False).first.wait_for()
        for head in ("Trial ID", "fc1", "lr", "best_val_acc"):
            page.get_by_text(head, exact=True).first.wait_for()
        if pictures:
            page.screenshot(path=pictures / "tensorboard.png")
        page.goto(f"{url}/#timeseries")
        page.reload()
        page.get_by_text("val_acc", exact=True).locator("visible=true").first.wait_for()


def test_ctrl_c_says_what_happens_and_how_to_go_on(terminal: Terminal) -> None:
    terminal.press("C-c")
    terminal.wait_for("stopping, nothing is lost; once more to stop at once")
    terminal.wait_for("interrupted; nothing is lost")
    terminal.wait_for(r"resume: python .*/tuning/search\.py --resume runs/seen")
    terminal.wait_for("ended with 130")


def test_kept_alive_ray_and_its_dashboard_outlive_the_search_until_enter(
    terminal: Terminal, place: Path
) -> None:
    begun = len((place / "runs/seen/trials.csv").read_text().splitlines()) - 1
    again = Terminal(
        [SEARCH, "--resume", "runs/seen", "--trials", str(begun + 1), "--keep-alive"], place
    )
    try:
        url = again.wait_for(r"dashboard (http://127\.0\.0\.1:\d+)")[1]
        again.wait_for(r"retrain: python .*/tuning/retrain\.py runs/seen")
        again.wait_for("press Enter or Ctrl-C to end")
        assert "<html" in urllib.request.urlopen(url).read().decode().lower()
        again.press("Enter")
        again.wait_for("ended with 0")
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url)
    finally:
        again.close()
