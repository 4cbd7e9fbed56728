"""Before anything is changed: what stands there, which ways are open, what is in the way of them, which one it is."""
