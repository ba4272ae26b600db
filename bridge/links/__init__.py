"""The doors towards platforms: WebSockets, HTTP requests, and how long to wait before the next try."""
