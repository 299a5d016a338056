"""Ray Serve: engine deployments, the search orchestrator, the OpenAI-compatible ingress.

Inside this package a bare ``serve`` means Ray's; ours is always ``from serve.<module> import …``.
It must not know how training or the batch pipelines work.
"""
