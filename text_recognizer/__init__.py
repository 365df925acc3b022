"""The recogniser: data, networks and prediction. Knows no Ray, no Optuna and no YAML."""

import sys
from importlib.util import find_spec

# `python -m text_recognizer.predict` imports torch before any line of its own could say this.
if sys.argv[:1] == ["-m"] and not find_spec("torch"):
    from text_recognizer.command import no_environment

    sys.stderr.write("error: " + no_environment("package 'torch'") + "\n")
    sys.exit(2)
