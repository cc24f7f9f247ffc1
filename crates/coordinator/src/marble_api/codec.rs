//! The messages of the one method. Evidence that is too long is refused before anything else is done with it.

use hyper::body::Buf as _;
use marblerun_api::rpc::{ActivationReq, ActivationResp};
use marblerun_attestation::MAX_QUOTE_BYTES;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

type Prost = ProstCodec<ActivationResp, ActivationReq>;

/// As the protocol has it, with a limit for the evidence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ActivationCodec;

impl Codec for ActivationCodec {
    type Encode = ActivationResp;
    type Decode = ActivationReq;
    type Encoder = ProstEncoder<ActivationResp>;
    type Decoder = RequestDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        Prost::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(Prost::default().decoder())
    }
}

/// Decodes requests whose evidence is not too long.
#[derive(Debug)]
pub(super) struct RequestDecoder(ProstDecoder<ActivationReq>);

impl Decoder for RequestDecoder {
    type Item = ActivationReq;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<ActivationReq>, Status> {
        // A message is one piece of memory.
        let length = longest_evidence(message.chunk());
        if length > MAX_QUOTE_BYTES as u64 {
            return Err(Status::invalid_argument(format!(
                "evidence: expected at most {MAX_QUOTE_BYTES} bytes, got {length}"
            )));
        }
        self.0.decode(message)
    }
}

/// The field of the evidence in a request.
const EVIDENCE_FIELD: u64 = 1;

/// Length of the longest evidence that a request claims to hold, 0 if there is none. What is malformed ends the search;
/// decoding will say so.
fn longest_evidence(mut message: &[u8]) -> u64 {
    let mut longest = 0;
    while let Some((length, rest)) = next_field(message) {
        longest = longest.max(length);
        message = rest;
    }
    longest
}

/// Length of the next field if it holds evidence, else 0; and what comes after it.
///
/// Wire types: Protocol Buffers, "Encoding", "Message Structure".
fn next_field(message: &[u8]) -> Option<(u64, &[u8])> {
    let (key, rest) = varint(message)?;
    match key & 7 {
        0 => varint(rest).map(|(_, rest)| (0, rest)),
        1 => rest.get(8..).map(|rest| (0, rest)),
        2 => {
            let (length, rest) = varint(rest)?;
            // What is longer than the message was cut; its length still counts.
            let rest = usize::try_from(length).ok().and_then(|length| rest.get(length..)).unwrap_or_default();
            Some((if key >> 3 == EVIDENCE_FIELD { length } else { 0 }, rest))
        }
        5 => rest.get(4..).map(|rest| (0, rest)),
        _ => None,
    }
}

/// A number of up to ten bytes, seven bits each, and what comes after it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn request(quote: usize) -> Vec<u8> {
        let request = ActivationReq {
            quote: vec![7; quote],
            csr: vec![1; 300],
            marble_type: "web".to_owned(),
            uuid: "u".repeat(36),
        };
        request.encode_to_vec()
    }

    #[test]
    fn the_evidence_is_found_wherever_it_stands() {
        for length in [0, 1, 127, 128, 65_536, 65_537, 3_000_000] {
            assert_eq!(longest_evidence(&request(length)), length as u64);
            // Behind fields of every type that no version has.
            let mut other = vec![0x78, 0xff, 0x01, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7d, 1, 2, 3, 4, 0x7a, 1, 9];
            other.extend(request(length));
            assert_eq!(longest_evidence(&other), length as u64);
            // The last one would count, and the longest is what is refused.
            other.extend([0x0a, 1, 0]);
            assert_eq!(longest_evidence(&other), u64::max(length as u64, 1));
        }
    }

    #[test]
    fn malformed_messages_end_the_search() {
        for message in [&[][..], &[0x0a], &[0x80; 20], &[0x0b, 1], &[0x79, 1], &[0x7d], &[0x08]] {
            assert_eq!(longest_evidence(message), 0, "{message:?}");
        }
        assert_eq!(longest_evidence(&[0x0a, 0xff, 0xff, 0x7f]), 0x1f_ffff);
    }
}
