//! The client API: bodies that clients send, bodies that Coordinators answer, and the query with the nonce.

use marblerun_api::rest::{
    AcknowledgeAnswer, CounterAnswer, ManifestAnswer, MessageAnswer, MonotonicCounterRequest, PendingUpdateAnswer,
    QuoteAnswer, RecoverAnswer, RecoverRequest, RecoveryKeyAnswer, SetManifestAnswer, SetManifestRequest,
    SignQuoteAnswer, SignQuoteRequest, StatusAnswer, UpdateAnswer, UpdateLogAnswer, decode_envelope, decode_nonce,
    decode_request, encode_nonce,
};
use marblerun_json::{Decode, DecodeError};

use crate::Verdict;

/// A request: nothing in it grows while it is decoded, and a manifest arrives at the other end as it was sent.
pub fn api_request(data: &[u8]) -> Verdict {
    let manifest = decode_request::<SetManifestRequest>(data);
    if let Ok(request) = &manifest {
        assert!(request.manifest.len() <= data.len());
        let again: SetManifestRequest = decode_request(&request.to_body()).expect("our own body reads");
        assert_eq!(&again, request);
    }
    let recover = decode_request::<RecoverRequest>(data);
    if let Ok(RecoverRequest { recovery_secret: Some(secret), .. }) = &recover {
        assert!(secret.len() <= data.len());
    }
    let quote = decode_request::<SignQuoteRequest>(data);
    let counter = decode_request::<MonotonicCounterRequest>(data);
    Verdict::of(&manifest).or(Verdict::of(&recover)).or(Verdict::of(&quote)).or(Verdict::of(&counter))
}

/// An answer, read by a client that does not trust its sender. What was read, written again, reads the same.
pub fn api_answer(data: &[u8]) -> Verdict {
    let envelope = decode_envelope(data, data.len());
    let Ok(outer) = &envelope else { return Verdict::of(&envelope) };
    let _ = outer.data_text();
    check::<StatusAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    if let Ok(answer) = outer.data::<StatusAnswer>() {
        let v1 = StatusAnswer { trust_class: None, ..answer };
        check_again(&v1, &v1.to_v1());
    }
    check::<ManifestAnswer>(outer.data(), |answer| vec![answer.to_v1(), answer.to_v2()]);
    check::<SetManifestAnswer>(outer.data(), |answer| vec![answer.to_v1(), answer.to_v2()]);
    check::<QuoteAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    check::<UpdateAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    check::<AcknowledgeAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    check::<PendingUpdateAnswer>(outer.data(), |answer| vec![answer.to_body()]);
    check::<UpdateLogAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    check::<MessageAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    check::<CounterAnswer>(outer.data(), |answer| vec![answer.to_v2()]);
    let _ = outer.data::<RecoverAnswer>().map(|answer| answer.to_v2());
    let _ = outer.data::<RecoveryKeyAnswer>();
    let _ = outer.data::<SignQuoteAnswer>();
    Verdict::Accepted
}

fn check<T: Decode + Default + PartialEq + std::fmt::Debug>(
    decoded: Result<T, DecodeError>,
    bodies: impl Fn(&T) -> Vec<String>,
) {
    if let Ok(answer) = decoded {
        bodies(&answer).iter().for_each(|body| check_again(&answer, body));
    }
}

#[track_caller]
fn check_again<T: Decode + Default + PartialEq + std::fmt::Debug>(answer: &T, body: &str) {
    let envelope = decode_envelope(body.as_bytes(), body.len()).expect("our own envelope reads");
    let again: T = envelope.data().expect("our own answer reads");
    assert_eq!(&again, answer, "{body}");
}

/// The query of GET quote: a nonce, written by our client, arrives.
pub fn nonce_query(data: &[u8]) -> Verdict {
    let sent = decode_nonce(Some(&encode_nonce(data))).expect("our own query reads");
    assert_eq!(sent.unwrap_or_default(), data);
    let Ok(query) = std::str::from_utf8(data) else { return Verdict::Refused };
    let decoded = decode_nonce(Some(query));
    if let Ok(nonce) = &decoded {
        assert!(nonce.as_ref().is_none_or(|nonce| nonce.len() < query.len()));
        return Verdict::Accepted;
    }
    Verdict::of(&decoded)
}
