"""The recogniser: data, networks and prediction. Knows no Ray, no Optuna and no YAML."""
