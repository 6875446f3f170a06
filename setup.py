"""What pyproject.toml can't say: a wheel that carries machine code is one for its platform."""

from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

CARRIED_CODE = Path(__file__).parent / "npshapenet" / "jit" / "carried_code"


class Wheel(bdist_wheel):
    """With the code of ``python -m npshapenet.jit.build``, if it is there."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = not any(CARRIED_CODE.glob("*.code"))

    def get_tag(self) -> tuple[str, str, str]:
        # It depends on no version of Python, and on no version of a C library.
        platform = "manylinux2014_x86_64.musllinux_1_1_x86_64"
        return "py3", "none", "any" if self.root_is_pure else platform


setup(cmdclass={"bdist_wheel": Wheel})
