"""The shadow, the new collection beside the live one, and the way to the live one's name (`cutover`).

What the shadow says about itself on the server is in `migration.strategies.shadow_state`.
"""
