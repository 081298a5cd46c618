"""Datasets and movies of simulated cells like annotated ones, written with statistics of both."""
