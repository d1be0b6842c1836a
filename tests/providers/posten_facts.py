"""The provider's schemas and examples, which are no part of the project and may be absent."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

FOLDER = Path(__file__).parent.parent.parent.parent / "shared" / "providers" / "posten-signering"
EXAMPLES = FOLDER / "examples"

needs_facts = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the provider's schemas and examples do not lie beside the project"
)


def example(name: str) -> bytes:
    return (EXAMPLES / name).read_bytes()


def schema(name: str = "direct-and-portal.xsd") -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(FOLDER / name))


def signature_schema() -> etree.XMLSchema:
    """The schema of `META-INF/signatures.xml`; it imports the other two without saying where they lie."""
    third = FOLDER / "thirdparty"
    text = f"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
      <xs:import namespace="http://www.w3.org/2000/09/xmldsig#"
                 schemaLocation="{third / "xmldsig-core-schema.xsd"}"/>
      <xs:import namespace="http://uri.etsi.org/01903/v1.3.2#" schemaLocation="{third / "XAdES.xsd"}"/>
      <xs:import namespace="http://uri.etsi.org/2918/v1.2.1#"
                 schemaLocation="{third / "ts_102918v010201.xsd"}"/>
    </xs:schema>"""
    parser = etree.XMLParser(no_network=True)
    return etree.XMLSchema(etree.fromstring(text.encode(), parser))
