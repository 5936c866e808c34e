"""A paper, claim by claim: its experiments as they ran, as described and as they should be."""
