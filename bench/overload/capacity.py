"""What rated capacity means here; the search for it is the load test's own."""

from loadtest.driving.search import NoCapacityError, find_capacity

__all__ = ["FULL_SHARE", "NoCapacityError", "find_capacity"]

FULL_SHARE = 0.99
"""At the rated capacity at least this share of requests gets the full tier, and p99 is within the budget."""
