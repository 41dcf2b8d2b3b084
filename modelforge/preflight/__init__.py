"""May it be done here: findings, memory, time and disk, before the start."""
