//! Small pieces of DER that the encoders share; lengths and tags are the `der` crate's.

use der::asn1::AnyRef;
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};

/// One element: tag, length, `value`.
pub(crate) fn tlv(tag: Tag, value: &[u8]) -> der::Result<Vec<u8>> {
    AnyRef::new(tag, value)?.to_der()
}

/// SEQUENCE of already encoded `parts`.
pub(crate) fn sequence(parts: &[Vec<u8>]) -> der::Result<Vec<u8>> {
    tlv(Tag::Sequence, &parts.concat())
}

/// SET OF, sorted as DER demands (X.690 11.6: by the octets of the encoded elements).
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> der::Result<Vec<u8>> {
    parts.sort();
    tlv(Tag::Set, &parts.concat())
}

/// The tag `[number]`, primitive as implicit strings have it.
pub(crate) fn primitive(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: false, number: TagNumber(number) }
}

/// The tag `[number]`, constructed.
pub(crate) fn constructed(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

/// The next element, which must be a SEQUENCE.
pub(crate) fn next_sequence<'a>(reader: &mut impl Reader<'a>) -> der::Result<AnyRef<'a>> {
    let element = AnyRef::decode(reader)?;
    if element.tag() != Tag::Sequence {
        return Err(element.tag().unexpected_error(Some(Tag::Sequence)).into());
    }
    Ok(element)
}

/// The elements that follow each other in the contents of a constructed element.
pub(crate) fn elements(contents: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(contents)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(AnyRef::decode(&mut reader)?);
    }
    Ok(found)
}

/// The elements of a SEQUENCE that makes up all of `der`.
pub(crate) fn sequence_elements(der: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let outer = AnyRef::from_der(der)?;
    if outer.tag() != Tag::Sequence {
        return Err(outer.tag().unexpected_error(Some(Tag::Sequence)).into());
    }
    elements(outer.value())
}
