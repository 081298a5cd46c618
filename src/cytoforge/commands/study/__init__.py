"""`cytoforge study ...`: the papers' comparisons on the user's data, resumable, with intervals."""
