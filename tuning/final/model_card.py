"""Writes the model card: where the final model comes from, its results and its limits."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from text_recognizer.predict import Recognizer
from text_recognizer.text import printable
from tuning.analysis import describe_range
from tuning.analysis.run_data import RunData
from tuning.final.candidates import Config
from tuning.final.scores import times
from tuning.run import FinalMetrics, environment
from tuning.trials import plus_minus

LICENCES = {
    "MNIST": "MNIST is by Y. LeCun, C. Cortes and C. J. C. Burges, CC BY-SA 3.0.",
    "FashionMNIST": "Fashion-MNIST is by Zalando SE, MIT licence.",
    "Digits": (
        "The digits are UCI's Optical Recognition of Handwritten Digits by E. Alpaydin "
        "and C. Kaynak, CC BY 4.0."
    ),
}


def model_card(
    recognizer: Recognizer, config: Config, metrics: FinalMetrics, search: RunData
) -> str:
    """The card of the final model as Markdown."""
    # Jinja escapes HTML, not Markdown. So every value from a file goes through `code` instead.
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=StrictUndefined,  # else a misspelt name would leave a gap in the card
        keep_trailing_newline=True,
    )
    templates.filters |= {"code": code, "searched": describe_range}
    return templates.get_template("model_card.md.jinja").render(
        model=type(recognizer.model).__name__,
        weights=sum(weight.numel() for weight in recognizer.model.parameters()),
        data=recognizer.data,
        digits=all(name.isdecimal() for name in recognizer.data.mapping),
        licence=LICENCES.get(
            metrics.trained_on.data_class,
            "See the source of the data set for its licence.",  # one that a user has added
        ),
        config=config,
        metrics=metrics,
        search=search,
        parameters=search.space.as_plain()["space"],
        versions=environment().versions,
        plus_minus=plus_minus,
        times=times,
    )


def code(value: object) -> str:
    """A value as a Markdown code span on one line. Nothing in the value acts as markup."""
    text = printable(f"{value:.6g}" if isinstance(value, float) else str(value))
    # A backtick would end the span, and a bar would end the table's cell.
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"
