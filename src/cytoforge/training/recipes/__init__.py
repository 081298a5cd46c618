"""Networks, optimisers and one step of each way of training."""
