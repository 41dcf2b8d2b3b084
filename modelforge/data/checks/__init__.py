"""Check datasets: findings about files, rows, messages and texts."""
