"""The passes that proxies are measured by."""
