"""The container image as users get it: the Dockerfile is built, the image run for good and looked at from outside.

No image registry is asked: `base` makes what stands in for the base image out of Debian's packages. `engine` is
buildah and podman on a storage of their own, which vanishes with it. `still` looks at the image, `running` at a
container that bridges from a simulator to a real Mosquitto, `pods` at the chart's pods, which `kubelet` runs with this
image. `python -m tests.image`, as root on Debian: `.ci/image` installs what it takes.
"""
