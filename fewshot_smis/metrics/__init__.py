"""Measures of results, each a plain function."""
