"""Models that look at images, with mlx-vlm's model classes, in the same batch as text."""
