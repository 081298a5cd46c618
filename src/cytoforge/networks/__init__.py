"""Neural networks: generators, discriminators, segmenters, the tracker, optical flow and feature networks."""
