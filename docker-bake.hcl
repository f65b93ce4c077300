# The images: `make images`, or `docker buildx bake TARGET...`. Each variable can be set in the environment.
# `make images` sets VERSION from the file of that name.

variable "REGISTRY" {
  default = "ghcr.io/careca"
}

variable "VERSION" {
  default = "dev"
}

variable "REVISION" {
  default = "unknown"
}

variable "CREATED" {
  default = "unknown"
}

# May carry a digest: python:...@sha256:...
variable "PYTHON_IMAGE" {
  default = "docker.io/library/python:3.11.14-slim-bookworm"
}

# Builds the console. May carry a digest.
variable "NODE_IMAGE" {
  default = "docker.io/library/node:22-bookworm-slim"
}

# Where builds of torch without CUDA are; empty takes torch from where everything else comes from.
variable "TORCH_CPU_INDEX" {
  default = "https://download.pytorch.org/whl/cpu"
}

group "default" {
  targets = ["gateway", "web", "transcriber-cpu", "transcriber-cuda", "diarizer-cpu", "diarizer-pyannote", "diarizer-cuda"]
}

group "cpu" {
  targets = ["gateway", "web", "transcriber-cpu", "diarizer-cpu", "diarizer-pyannote"]
}

target "common" {
  context   = "."
  platforms = ["linux/amd64"]
  args = {
    PYTHON_IMAGE = PYTHON_IMAGE
    VERSION      = VERSION
    REVISION     = REVISION
    CREATED      = CREATED
  }
}

target "gateway" {
  inherits   = ["common"]
  dockerfile = "services/gateway/Dockerfile"
  tags       = ["${REGISTRY}/gateway:${VERSION}"]
}

target "web" {
  inherits   = ["common"]
  dockerfile = "services/web/Dockerfile"
  args       = { NODE_IMAGE = NODE_IMAGE }
  tags       = ["${REGISTRY}/web:${VERSION}"]
}

target "transcriber-cpu" {
  inherits   = ["common"]
  dockerfile = "services/transcriber/Dockerfile"
  args       = { VARIANT = "cpu" }
  tags       = ["${REGISTRY}/transcriber:${VERSION}"]
}

target "transcriber-cuda" {
  inherits   = ["common"]
  dockerfile = "services/transcriber/Dockerfile"
  args       = { VARIANT = "cuda" }
  tags       = ["${REGISTRY}/transcriber:${VERSION}-cuda"]
}

target "diarizer-cpu" {
  inherits   = ["common"]
  dockerfile = "services/diarizer/Dockerfile"
  args       = { VARIANT = "cpu" }
  tags       = ["${REGISTRY}/diarizer:${VERSION}"]
}

target "diarizer-pyannote" {
  inherits   = ["common"]
  dockerfile = "services/diarizer/Dockerfile"
  args       = { VARIANT = "pyannote", TORCH_CPU_INDEX = TORCH_CPU_INDEX }
  tags       = ["${REGISTRY}/diarizer:${VERSION}-pyannote"]
}

target "diarizer-cuda" {
  inherits   = ["common"]
  dockerfile = "services/diarizer/Dockerfile"
  args       = { VARIANT = "cuda" }
  tags       = ["${REGISTRY}/diarizer:${VERSION}-cuda"]
}
