"""One script a claim of speed; each prints its ratios and saves them as JSON."""
