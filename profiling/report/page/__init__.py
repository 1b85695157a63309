"""A report as one HTML page: inline SVG and CSS, no script, no network."""

from fastpipe.profiling.report.page.build import page as page

__all__ = ["page"]
