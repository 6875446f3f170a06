"""How fast npshapenet is, beside what else runs the same network: ``python -m benchmarks``.

Micro-benchmarks of single layers: ``pytest benchmarks``.
"""
