"""`signspool demo`: both tiers for real, between simulated providers and a simulated DMS."""
