"""Pairs looked at, packed, chosen."""
