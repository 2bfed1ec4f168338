"""The compiled part of the engine: arrays in, arrays changed.

``state`` is a ``State`` with room for what may come, ``plan`` a ``Plan``.
"""
