"""A first recipe for somebody's data: what they are taken for, and what fits them."""
