"""Properties of values, by Hypothesis."""
