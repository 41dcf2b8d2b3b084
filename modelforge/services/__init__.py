"""Application services: everything that the page, REST and the command line do."""
