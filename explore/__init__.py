"""The explorer: runs beside the published points, on one page that needs no network."""
