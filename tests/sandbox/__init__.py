"""Tests of the Typesense-compatible sandbox server, and the helper that starts one."""
