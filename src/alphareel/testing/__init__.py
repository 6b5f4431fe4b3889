"""Public fakes, a clip maker with known alpha, conformance suites."""
