"""`make images-check`: builds the images for processors, runs all of Careca from them, and breaks it in many ways.

Each container gets what its pod would have by the manifests: user and groups, a root file system that cannot be
written, no capabilities, limits of memory and processors, variables, Secrets, volumes and init containers. It needs
root, podman and buildah. `podman kube play` is not used: that of Debian 12 (podman 4.3) crashes at volumes of Secrets.
"""
