"""The passes that measure proxies."""
