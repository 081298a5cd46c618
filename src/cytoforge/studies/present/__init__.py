"""How studies show what was measured: rows, pages and pictures of measurements alone. Nothing here trains or scores."""
