"""XML from strangers: nothing outside of the text is ever read, and nothing in it can blow up."""

from __future__ import annotations

from lxml import etree


def parse_xml(body: bytes) -> etree._Element:
    """The root of a document that has neither DOCTYPE nor entities, without comments and instructions.

    How long it may be is for the caller to judge.

    Raises:
        ValueError: it is no XML, or has a DOCTYPE; the message repeats nothing of it.
    """
    # Made anew each time: a parser must not be used by two threads at once.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        # The parser's words may quote the text.
        raise ValueError("the body is not well-formed XML") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise ValueError("the XML has a DOCTYPE, which is not read")
    return root
