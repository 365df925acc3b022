"""The final script: trains the best config again and reads the test set once."""

from tuning.final.retraining import Request, Retraining
