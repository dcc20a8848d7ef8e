"""The objectives, each a sum with a count."""
