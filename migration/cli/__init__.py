"""The commands of `kai-migrate`, one module each: options in, one call, layout of the answer out.

What they show is put together by `migration.operations`. Each module loads the rest of the program only when its
command is carried out, so that help comes at once.
"""
