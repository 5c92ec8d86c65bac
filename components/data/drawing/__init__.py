"""What toybirds are drawn with: birds of parts, and the places behind them."""
