"""Images that lie in memory as arrays of levels."""
