//! The SGX enclave signature structure (Intel SDM volume 3D, 38.13; `intel/linux-sgx` `common/inc/internal/arch.h`).

use aws_lc_rs::digest::{SHA256, digest};

/// Size of the structure in bytes.
pub const SIGSTRUCT_BYTES: usize = 1808;

/// HEADER, and a TYPE of zero.
const HEADER: [u8; 16] = [0x06, 0, 0, 0, 0xE1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
/// HEADER2.
const HEADER_2: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];

const MODULUS: std::ops::Range<usize> = 128..512;
const ATTRIBUTES: usize = 928;
const ENCLAVE_HASH: std::ops::Range<usize> = 960..992;
const ISV_PROD_ID: std::ops::Range<usize> = 1024..1026;
const ISV_SVN: std::ops::Range<usize> = 1026..1028;
/// Bit of ATTRIBUTES.FLAGS.
const ATTRIBUTE_DEBUG: u8 = 1 << 1;

/// Why bytes hold no signature structure.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigStructError {
    /// The header does not occur.
    #[error("no signature structure found")]
    NotFound,
    /// The bytes end inside it.
    #[error("expected a signature structure of {SIGSTRUCT_BYTES} bytes, got the first {got} of one")]
    Truncated {
        /// Bytes from the header on.
        got: usize,
    },
    /// The second header is missing.
    #[error("what looks like a signature structure lacks the second header")]
    Header2,
}

/// What an enclave's signature structure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigStruct {
    /// MRENCLAVE, the manifest's `UniqueID`.
    pub mr_enclave: [u8; 32],
    /// MRSIGNER, the manifest's `SignerID`: SHA-256 of the signer's modulus as it is stored, least significant byte first.
    pub mr_signer: [u8; 32],
    /// ISVPRODID, the manifest's `ProductID`.
    pub isv_prod_id: u16,
    /// ISVSVN, the manifest's `SecurityVersion`.
    pub isv_svn: u16,
    /// Whether the enclave may be debugged: its memory is readable then.
    pub is_debug: bool,
}

impl SigStruct {
    /// The first signature structure in `bytes`, at whatever offset.
    ///
    /// # Errors
    ///
    /// See [`SigStructError`].
    ///
    /// ```
    /// use marblerun_enclave_image::{SigStruct, SigStructError};
    ///
    /// assert_eq!(SigStruct::find(b"no enclave"), Err(SigStructError::NotFound));
    /// ```
    pub fn find(bytes: &[u8]) -> Result<Self, SigStructError> {
        let start = position(bytes, &HEADER).ok_or(SigStructError::NotFound)?;
        let rest = bytes.get(start..).unwrap_or_default();
        let structure: &[u8; SIGSTRUCT_BYTES] =
            rest.first_chunk().ok_or(SigStructError::Truncated { got: rest.len() })?;
        position(structure, &HEADER_2).ok_or(SigStructError::Header2)?;
        let mut mr_enclave = [0; 32];
        mr_enclave.copy_from_slice(&structure[ENCLAVE_HASH]);
        let mut mr_signer = [0; 32];
        mr_signer.copy_from_slice(digest(&SHA256, &structure[MODULUS]).as_ref());
        let number = |range: std::ops::Range<usize>| {
            structure[range].iter().rev().fold(0_u16, |value, byte| value << 8 | u16::from(*byte))
        };
        Ok(Self {
            mr_enclave,
            mr_signer,
            isv_prod_id: number(ISV_PROD_ID),
            isv_svn: number(ISV_SVN),
            is_debug: structure[ATTRIBUTES] & ATTRIBUTE_DEBUG != 0,
        })
    }
}

fn position(bytes: &[u8], pattern: &[u8; 16]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;

    /// A structure with recognisable values.
    pub(crate) fn example() -> Vec<u8> {
        let mut bytes = vec![0; SIGSTRUCT_BYTES];
        bytes[..16].copy_from_slice(&HEADER);
        bytes[24..40].copy_from_slice(&HEADER_2);
        for (index, byte) in bytes[MODULUS].iter_mut().enumerate() {
            *byte = index as u8;
        }
        bytes[ENCLAVE_HASH].fill(0xAB);
        bytes[ISV_PROD_ID].copy_from_slice(&[0x02, 0x01]);
        bytes[ISV_SVN].copy_from_slice(&[7, 0]);
        bytes
    }

    // rules: PKG-2, PKG-5
    #[test]
    fn the_values_are_found_at_an_odd_offset_and_the_signer_is_the_hash_of_the_stored_modulus() {
        let bytes = [b"ELF", example().as_slice(), b"tail"].concat();
        let found = SigStruct::find(&bytes).unwrap();
        let modulus: Vec<u8> = (0..384).map(|index| index as u8).collect();
        assert_eq!(found.mr_signer, digest(&SHA256, &modulus).as_ref());
        assert_eq!((found.mr_enclave, found.isv_prod_id, found.isv_svn), ([0xAB; 32], 0x0102, 7));
        assert!(!found.is_debug);
        let mut debug = example();
        debug[ATTRIBUTES] = 0x06;
        assert!(SigStruct::find(&debug).unwrap().is_debug);
    }

    // rules: PKG-4, PKG-6
    #[test]
    fn what_is_no_whole_structure_is_refused() {
        let example = example();
        assert_eq!(SigStruct::find(&[]), Err(SigStructError::NotFound));
        assert_eq!(SigStruct::find(&[0; 4000]), Err(SigStructError::NotFound));
        let cut = &example[..SIGSTRUCT_BYTES - 1];
        assert_eq!(SigStruct::find(cut), Err(SigStructError::Truncated { got: SIGSTRUCT_BYTES - 1 }));
        let mut other = example.clone();
        other[24] = 9;
        assert_eq!(SigStruct::find(&other), Err(SigStructError::Header2));
    }
}
