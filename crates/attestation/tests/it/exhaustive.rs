//! Every single-byte change of a good quote is refused, outside the bytes that nobody signs.

use std::ops::Range;

use marblerun_attestation::{Quote, TrustedCollateral, verify};
use rustls_pki_types::UnixTime;

use crate::fixtures::vector;
use crate::pki::{NOW, Plan, World};

const CERTIFICATION_LEN: Range<usize> = 1048..1052;
const CERTIFICATION_DATA: usize = 1052;

/// The positions at which a change may go unnoticed, from the structure of the quote.
///
/// They are the length of the certification data (if what it cuts off is zero padding or it announces less of the
/// PEM text) and, within the PEM text: white space, and the third certificate, which is the root as the sender sees
/// it. The trusted root comes from elsewhere.
fn free_positions(quote: &[u8]) -> Vec<bool> {
    let mut free = vec![false; quote.len()];
    free[CERTIFICATION_LEN].fill(true);
    let text = &quote[CERTIFICATION_DATA..];
    let begin = b"-----BEGIN CERTIFICATE-----";
    let third = text.windows(begin.len()).enumerate().filter(|(_, window)| window == begin).nth(2).unwrap().0;
    for (at, byte) in text.iter().enumerate() {
        free[CERTIFICATION_DATA + at] = byte.is_ascii_whitespace() || *byte == 0 || at >= third + begin.len();
    }
    free
}

fn accepted(quote: &[u8], collateral: &TrustedCollateral, now: UnixTime) -> bool {
    Quote::parse(quote).is_ok_and(|quote| verify(&quote, collateral, now).is_ok())
}

/// Changes every bit alone, and every byte that frames others to each other value, and returns the positions at which any of them was accepted.
fn unnoticed(quote: &[u8], collateral: &TrustedCollateral, now: UnixTime) -> Vec<usize> {
    assert!(accepted(quote, collateral, now));
    let halves = [0..quote.len() / 2, quote.len() / 2..quote.len()];
    std::thread::scope(|scope| {
        let threads = halves.map(|half| {
            scope.spawn(move || {
                let mut changed = quote.to_vec();
                let mut found = Vec::new();
                for at in half {
                    let frames =
                        at < 48 || (432..436).contains(&at) || (1012..1014).contains(&at) || (1046..1052).contains(&at);
                    let changes: Vec<u8> =
                        if frames { (1..=255).collect() } else { (0..8).map(|bit| 1 << bit).collect() };
                    for change in changes {
                        changed[at] = quote[at] ^ change;
                        if accepted(&changed, collateral, now) {
                            found.push(at);
                            break;
                        }
                    }
                    changed[at] = quote[at];
                }
                found
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[track_caller]
fn check(quote: &[u8], collateral: &TrustedCollateral, now: UnixTime) {
    let free = free_positions(quote);
    let unnoticed = unnoticed(quote, collateral, now);
    for &at in &unnoticed {
        assert!(free[at], "byte {at} of {} was changed and the quote accepted", quote.len());
    }
    assert!(unnoticed.iter().all(|&at| at >= CERTIFICATION_LEN.start), "a signed byte is free");
    // The embedded root is really not looked at: else this test would say nothing about it.
    assert!(unnoticed.len() > 100, "only {} bytes are free", unnoticed.len());
}

// rules: ATT-10.5
#[test]
fn every_changed_byte_of_a_real_quote_is_refused_outside_the_unsigned_positions() {
    let vector = vector("sgx-confhard");
    let collateral = marblerun_attestation::Collateral::parse(&vector.collateral)
        .and_then(|collateral| collateral.verify(&vector.roots(), vector.now))
        .unwrap();
    check(&vector.evidence, &collateral, vector.now);
}

// rules: ATT-10.5
#[test]
fn every_changed_byte_of_a_fabricated_quote_is_refused_outside_the_unsigned_positions() {
    let made = World::new().make(&Plan::default());
    check(&made.quote, &made.trusted(), crate::fixtures::at(NOW));
}
