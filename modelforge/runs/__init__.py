"""What happened: run folders, events, states, and the processes behind them."""
