"""The classes that embed, one function for each row of `kai.families`; each imports the SDK that it needs itself."""
