"""The papers' comparisons on the user's data: what is measured (`measure`), and how it is shown (`present`)."""
