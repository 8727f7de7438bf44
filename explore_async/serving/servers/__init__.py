"""Model servers that explore_async starts and stops itself."""
