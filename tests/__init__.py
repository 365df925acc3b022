import tuning.ray_backend  # noqa: F401  (sets Ray's environment before a test imports Ray)
