"""One loop, one task module per objective."""
