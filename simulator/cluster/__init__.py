"""Many replicas: how requests reach them and what their fleet emits."""
