"""The first minutes on a GPU: every check that needs one, each on its own, in one JSON file.

    python -m benchmarks.gpu --quick
    python -m benchmarks.gpu --quick --out gpu.json --limit 600

docs/performance.md says what each check measures and how.
"""
