//! A short search near the corpus, the same in every run; the fuzzer does the long one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use marblerun_fuzz_cases::TARGETS;

use crate::corpus::inputs;

/// Changed inputs per target.
const ROUNDS: usize = 800;
/// Values that length fields and counters are sensitive to.
const INTERESTING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'\n'];

/// SplitMix64: good enough to pick places, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// Changes `data` at one place.
fn change(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(data.len() + 1);
    match random.below(7) {
        0 => data.truncate(at),
        1 => data.insert(at, INTERESTING[random.below(INTERESTING.len())]),
        2 if at < data.len() => data[at] ^= 1 << random.below(8),
        3 if at < data.len() => data[at] = INTERESTING[random.below(INTERESTING.len())],
        4 if at < data.len() => drop(data.drain(at..(at + 1 + random.below(8)).min(data.len()))),
        5 => {
            let end = (at + random.below(64)).min(data.len());
            let again = data[at..end].to_vec();
            data.splice(at..at, again);
        }
        6 if !other.is_empty() => {
            let from = random.below(other.len());
            let end = (from + random.below(64)).min(other.len());
            data.splice(at..at, other[from..end].iter().copied());
        }
        _ => data.push(INTERESTING[random.below(INTERESTING.len())]),
    }
}

#[test]
fn inputs_that_differ_a_little_from_the_corpus_hold() {
    for (index, (target, case)) in TARGETS.iter().enumerate() {
        let corpus = inputs(target);
        let mut random = Random(index as u64);
        for round in 0..ROUNDS {
            let (name, seed) = &corpus[random.below(corpus.len())];
            let (_, other) = &corpus[random.below(corpus.len())];
            let mut data = seed.clone();
            for _ in 0..=random.below(4) {
                change(&mut data, other, &mut random);
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&data))) {
                println!("{target}, round {round}, from {name}: {}", data.escape_ascii());
                resume_unwind(panic);
            }
        }
    }
}
