// docker buildx bake --file docker/docker-bake.hcl, by `make images`; see docs/images.md.

variable "REGISTRY" {
  default = "omnistage"
}

variable "TAG" {
  default = "0.1.0"
}

variable "REVISION" {
  default = "unknown"
}

// By digest; docker/base-images.env, which `make pin-bases` writes, has them.
variable "PYTHON_BASE" {
  default = ""
}
variable "CUDA_BASE" {
  default = ""
}

group "default" {
  targets = ["launcher", "trainer"]
}

target "image" {
  context = "."
  args = {
    VERSION  = "0.1.0"
    REVISION = REVISION
  }
  attest = [
    "type=sbom",
    "type=provenance,mode=max",
  ]
}

target "launcher" {
  inherits   = ["image"]
  dockerfile = "docker/launcher.Dockerfile"
  target     = "launcher"
  args       = { PYTHON_BASE = PYTHON_BASE }
  tags       = ["${REGISTRY}/launcher:${TAG}"]
  platforms  = ["linux/amd64", "linux/arm64"]
}

// vLLM and flash attention are resolved for linux/amd64 alone.
target "trainer" {
  inherits   = ["image"]
  dockerfile = "docker/trainer.Dockerfile"
  target     = "trainer"
  args       = { TRAINER_BASE = CUDA_BASE }
  tags       = ["${REGISTRY}/trainer:${TAG}"]
  platforms  = ["linux/amd64"]
}

target "trainer-cpu" {
  inherits   = ["image"]
  dockerfile = "docker/trainer.Dockerfile"
  target     = "trainer-cpu"
  args       = { TRAINER_BASE = CUDA_BASE }
  tags       = ["${REGISTRY}/trainer-cpu:${TAG}"]
  platforms  = ["linux/amd64"]
}
