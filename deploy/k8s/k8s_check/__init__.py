"""Checks of the manifests that need no cluster: ``make k8s-check`` runs them all on everything that can be built.

``build`` has kustomize build overlays and components, ``manifests`` reads the outcome, and the other modules have
rules: functions that take ``Manifests`` and return what is wrong as sentences.
"""
