"""``litmus torture``: real processes, real faults, a load that never stops, and an audit."""
