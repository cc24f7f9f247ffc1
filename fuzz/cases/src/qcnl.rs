//! Intel's file that names a collateral service.

use marblerun_collateral::{BaseUrl, Qcnl, ServerCertificate};

use crate::Verdict;

/// A service that was read is one that can be written down again, and only the file makes TLS lax.
pub fn qcnl(data: &[u8]) -> Verdict {
    let read = Qcnl::parse(data);
    if let Ok(qcnl) = &read {
        let url = qcnl.collateral_url.to_string();
        assert_eq!(BaseUrl::parse(&url).as_ref(), Ok(&qcnl.collateral_url));
        assert!(url.ends_with("/sgx/certification/v4/"), "{url}");
        let is_lax = qcnl.client_options().server_certificate == ServerCertificate::Any;
        assert_eq!(is_lax, !qcnl.use_secure_cert);
        assert!(!is_lax || contains_ignoring_case(data, b"false"), "nothing in the file says so");
    }
    Verdict::of(&read)
}

fn contains_ignoring_case(data: &[u8], word: &[u8]) -> bool {
    // The word may be written with escapes.
    data.contains(&b'\\') || data.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}
