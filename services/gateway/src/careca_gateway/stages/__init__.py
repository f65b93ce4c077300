"""The pipeline's stages that read the model services' messages: recognizing speakers, retrying, building the result."""
