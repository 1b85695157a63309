"""The explorer: runs with the published points, on one page that needs no network."""
