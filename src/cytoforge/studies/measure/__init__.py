"""What studies measure: trainings, paintings and scores, each done once. Nothing here writes a table or a page."""
