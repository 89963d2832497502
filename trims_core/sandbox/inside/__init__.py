"""What runs inside the sandbox: the standard library and nothing else of this project is there."""
