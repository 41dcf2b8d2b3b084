"""The worker: the room that trains, in a process of its own."""
