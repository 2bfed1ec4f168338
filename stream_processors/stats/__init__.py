"""Pure statistics: exact integer sums in, finite floats out. Nothing of ours is imported here."""
