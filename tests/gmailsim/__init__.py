"""Gmail's submission service and OAuth2 token endpoint, simulated."""
