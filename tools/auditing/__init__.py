"""``litmus audit``: sums against a fold of the cells, and against the looks published."""
