"""The durable record of a search: one Optuna study."""
