"""The Export page: choose run and format, follow exports, download and serve them."""
