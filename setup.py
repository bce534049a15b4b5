"""Builds the native extensions; everything else about the package stands in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]


def native(name: str, *headers: str, more: tuple[str, ...] = ()) -> Extension:
    return Extension(
        f"warmspare._native.{name}",
        [f"ext/{name}.pyx", *(f"ext/{source}" for source in more)],
        include_dirs=["ext"],
        depends=[f"ext/{file}" for file in (f"{name}.pyx", *headers)],  # a source distribution takes them along
        extra_compile_args=FLAGS,
        define_macros=[("_GNU_SOURCE", "1"), ("XXH_INLINE_ALL", "1")],
    )


setup(
    ext_modules=cythonize(
        [
            native("pages", "kernels.pxd"),
            native("sparse", "kernels.pxd", "holes.pxd"),
            native("holes", "holes.pxd"),
            native("judge", "kernels.pxd", "hash128/hash128.h", more=("hash128/plain.c", "hash128/wide.c")),
            native("ring", "ring.h"),
            native("vddk", "ring.h", "vixdisklib.h", "vddk_api.h", "vddk_reader.h"),
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
