"""What is trained on what and validated by what, and one `run_task` for all of them."""
