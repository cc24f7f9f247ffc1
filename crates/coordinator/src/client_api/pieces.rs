//! The bytes of a request body while it arrives.

use zeroize::Zeroize as _;

/// Longest piece, in bytes.
const MAX_PIECE_BYTES: usize = 64 * 1024;

/// What has arrived of a body, in pieces that are never moved, so that growing leaves no copy of a secret behind.
///
/// The frames themselves are not kept: clients choose their size, and one that sends a byte in each would have what
/// surrounds that byte kept with it, many times more than any budget counts. Pieces take at most twice their bytes.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: Vec<Vec<u8>>,
    length: usize,
}

impl Pieces {
    /// Appends `data`.
    pub(super) fn push(&mut self, data: &[u8]) {
        let room = self.pieces.last().map_or(0, |last| last.capacity() - last.len());
        let (fits, rest) = data.split_at(data.len().min(room));
        if let Some(last) = self.pieces.last_mut() {
            last.extend_from_slice(fits);
        }
        if !rest.is_empty() {
            let mut piece = Vec::with_capacity(rest.len().max(self.length.min(MAX_PIECE_BYTES)));
            piece.extend_from_slice(rest);
            self.pieces.push(piece);
        }
        self.length += data.len();
    }

    /// How many bytes there are.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// All of them in one piece.
    pub(super) fn concat(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.pieces.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pieces {
        /// What it takes, in bytes.
        fn taken(&self) -> usize {
            let table = self.pieces.capacity() * size_of::<Vec<u8>>();
            table + self.pieces.iter().map(Vec::capacity).sum::<usize>()
        }
    }

    #[test]
    fn bytes_come_back_in_their_order_whatever_the_frames() {
        let sent: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
        for frame in [1, 2, 3, 1000, 40_000, 100_000] {
            let mut pieces = Pieces::default();
            for data in sent.chunks(frame) {
                pieces.push(&[]);
                pieces.push(data);
            }
            assert_eq!((pieces.concat(), pieces.length()), (sent.clone(), sent.len()), "frames of {frame}");
        }
        assert!(Pieces::default().concat().is_empty());
    }

    #[test]
    fn a_body_in_tiny_frames_takes_little_more_than_its_bytes() {
        let mut pieces = Pieces::default();
        for count in 1..=1_000_000_usize {
            pieces.push(b"a");
            assert!(pieces.taken() <= 3 * count + 256, "{count} bytes take {}", pieces.taken());
        }
        (0..1_000_000).for_each(|_| pieces.push(&[]));
        assert!(pieces.taken() < 1_200_000, "{}", pieces.taken());
    }
}
