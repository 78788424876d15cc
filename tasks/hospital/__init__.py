"""The hospital's side of a round: its site, its checks, its answers on the exchange."""
