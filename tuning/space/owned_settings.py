"""Settings that no search space may search, because the search decides them."""

# The search decides these for every trial. name -> where the user sets it instead, or why not
OWNED_BY_SEARCH = {
    "max_epochs": "Set it under search.",
    "monitor": "Set search.metric.",
    "patience": "The scheduler stops trials; leave it out.",
    "gpus": "Use --gpus-per-trial.",
    "threads": "Use --cpus-per-trial.",
    "accelerator": "Use --gpus-per-trial.",
    "devices": "One trial uses one device; use --gpus-per-trial.",
    "num_nodes": "One trial uses one device; the search distributes the trials.",
    "enable_checkpointing": "The search keeps checkpoints itself.",
    "check_val_every_n_epoch": "Every trial is validated after every epoch.",
    "fast_dev_run": "It trains a single batch; use training/run_experiment.py for that.",
    "limit_val_batches": "Trials are compared on the same validation data.",
    "overfit_batches": "It is for debugging a model; use training/run_experiment.py for that.",
    "barebones": "It turns off the metrics that a search needs.",
    "max_steps": "A trial is measured in epochs; set search.max_epochs.",
    "max_time": "A trial is measured in epochs; set search.max_epochs.",
}

# All trials have the same values of these: trials can be compared only then.
SAME_FOR_ALL_TRIALS = dict.fromkeys(
    ("model_class", "data_class", "seed"), "It is the same for all trials; set it under experiment."
)
