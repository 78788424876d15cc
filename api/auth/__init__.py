"""Who may do what: OAuth 2.0 tokens, their scopes, the passwords and secrets behind them."""
