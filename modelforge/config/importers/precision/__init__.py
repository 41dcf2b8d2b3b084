"""Options of other systems about precision, memory and compilation."""
