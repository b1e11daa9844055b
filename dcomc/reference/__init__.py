"""What is written from the code: the reference pages of docs/, and the IRDL definition of the `dcom` dialect.

python -m dcomc.reference
"""

from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def _cluster() -> str:
    from dcomc.reference.dialect_page import dialect_page
    from dialects import cluster

    return dialect_page(cluster.Cluster, cluster.__doc__, ROOT)


def _dcom() -> str:
    from dcomc.reference.dialect_page import dialect_page
    from dialects import dcom

    return dialect_page(dcom.Dcom, dcom.__doc__, ROOT)


def _dcom_irdl(named: bool) -> str:
    from dcomc.reference.irdl import dialect_definition
    from dialects.dcom import Dcom

    return dialect_definition(Dcom, named=named)


def _isa() -> str:
    from dcomc.reference.dialect_page import isa_page

    return isa_page()


def _instructions() -> str:
    from runtime.isa_reference import reference

    return reference()


def _passes() -> str:
    from dcomc.reference.pass_page import pass_page

    return pass_page()


FILES: Mapping[str, Callable[[], str]] = {
    "dialects/dcom.irdl": lambda: _dcom_irdl(True),
    "dialects/dcom-mlir19.irdl": lambda: _dcom_irdl(False),
    "docs/dialects/cluster.md": _cluster,
    "docs/dialects/dcom.md": _dcom,
    "docs/dialects/isa.md": _isa,
    "docs/isa.md": _instructions,
    "docs/passes.md": _passes,
}
"""Each file of the checkout that is written from the code, and what writes its text."""
