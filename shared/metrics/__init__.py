"""Figures about both tiers, and the private address at which they are read."""
