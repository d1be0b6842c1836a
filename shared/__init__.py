"""What both tiers know; imports neither of them."""
