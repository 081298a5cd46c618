"""From a run folder and data to results: loading networks, segmenting images of any size."""
