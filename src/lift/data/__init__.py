"""Pairs in."""
