"""One configuration dataclass and one run function per command."""
