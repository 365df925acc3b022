"""`final/README.md`: what the final model is, how it was found, what it is good for, and what
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from text_recognizer.predict import Recognizer
from text_recognizer.text import printable
from tuning.final.scores import Final, plus_minus, times
from tuning.space.search_space import SearchSpace

HERE = Path(__file__).parent
TEMPLATE = "model_card.md.jinja"
LICENCES = {
    "MNIST": "MNIST is by Y. LeCun, C. Cortes and C. J. C. Burges, CC BY-SA 3.0.",
    "FashionMNIST": "Fashion-MNIST is by Zalando SE, MIT licence.",
    "Digits": (
        "The digits are UCI's Optical Recognition of Handwritten Digits by E. Alpaydin "
        "and C. Kaynak, CC BY 4.0."
    ),
}
NO_LICENCE = "What its images may be used for is said where they come from."


@dataclass(frozen=True)
class Origin:
    """Where the model comes from: the run's name, its space, how many trials it had, and the
    versions that trained it.
    """

    run: str
    space: SearchSpace
    trials: int
    versions: dict[str, str | None]


def model_card(
    recognizer: Recognizer, final: Final, origin: Origin, metrics: dict[str, Any]
) -> str:
    """The card as Markdown.

    Args:
        recognizer: the final model.
        metrics: as `metrics.json` has them.
    """
    channels, height, width = recognizer.data.input_dims
    classes, data_class = recognizer.data.mapping, metrics["trained_on"]["data_class"]
    plain = origin.space.as_plain()
    return template().render(
        {
            "model": type(recognizer.model).__name__,
            "weights": sum(weight.numel() for weight in recognizer.model.parameters()),
            "channels": channels,
            "height": height,
            "width": width,
            "classes": classes,
            "subject": "digit"
            if all(name.isdecimal() for name in classes)
            else "object of one of these classes",
            "data_class": data_class,
            "data_licence": LICENCES.get(data_class, NO_LICENCE),
            "config": final.config,
            "run": origin.run,
            "trials": origin.trials,
            "search": origin.space.search,
            "searched": {name: range_of(parameter) for name, parameter in plain["space"].items()},
            "versions": ", ".join(
                f"{name} {version}" for name, version in origin.versions.items() if version
            ),
            "metrics": metrics,
            "times": times(final.test_reads),
        }
    )


def template() -> Template:
    """Markdown, not HTML: nothing is escaped, so that what comes from a file goes through
    `code`.
    """
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters["code"] = code
    made.globals["plus_minus"] = plus_minus
    return made.get_template(TEMPLATE)


def code(value: object) -> str:
    """A value from a file as a code span on one line, also inside of a table; nothing in it is
    markup.
    """
    text = printable(f"{value:.6g}" if isinstance(value, float) else str(value))
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def range_of(parameter: dict[str, Any]) -> str:
    """What a parameter might have been."""
    if "choices" in parameter:
        return ", ".join(map(str, parameter["choices"]))
    return f"{parameter['low']} to {parameter['high']}" + (", log" if parameter.get("log") else "")
