"""Kubernetes manifests of a deployment, validated: `manifests` puts them together from `pods`, `gpus` and
`autoscalers`, `schemas` checks them.

What a cluster has (image, namespace, where Prometheus is) is an argument, never guessed here.
"""
