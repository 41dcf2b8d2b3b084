"""Tools that other processes start as subprocesses."""
