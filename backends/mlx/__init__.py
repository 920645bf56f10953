"""MLX models in this process."""
