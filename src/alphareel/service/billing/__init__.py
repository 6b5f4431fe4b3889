"""Credits: prices, quotes, accounts."""
