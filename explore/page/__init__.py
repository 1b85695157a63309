"""The page: HTML, style and script in one file; the drawing is plotly's."""
