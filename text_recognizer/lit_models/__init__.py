"""How a network is trained and judged."""
