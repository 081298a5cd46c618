"""Write datasets and movies of simulated cells that resemble annotated ones, with statistics of both."""
