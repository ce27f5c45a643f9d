"""Tools that make label maps from photographs and drawings; each is a command of its own."""
