"""All of the driver that imports Ray."""
