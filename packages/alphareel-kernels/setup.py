"""Build the C library. Without a compiler the package installs all the same, and alphareel uses NumPy."""

import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

# No contraction to fused multiply-adds: every processor gives the same alpha.
FLAGS = (
    ["/O2"]
    if sys.platform == "win32"
    else ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
)


class AnyPythonWheel(bdist_wheel):  # type: ignore[misc]
    """Tags the wheel py3-none-PLATFORM."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "alphareel_kernels.kernels",
            ["src/alphareel_kernels/kernels.c", "src/alphareel_kernels/network.c"],
            depends=["src/alphareel_kernels/functions.h"],  # also puts it into the source distribution
            extra_compile_args=FLAGS,
            py_limited_api=True,
            optional=True,
        )
    ],
    cmdclass={"bdist_wheel": AnyPythonWheel},
)
