//! The messages of the Marble API.

use std::ffi::OsStr;

use marblerun_api::rpc::{ActivationReq, ActivationResp};
use marblerun_marble::parameters::{check, launch};
use prost::Message;

use crate::Verdict;

/// Both messages of an activation. What was read is written and read as the same; parameters that a Marble finds
/// applicable can be handed to a program.
pub fn activation(data: &[u8]) -> Verdict {
    let request = ActivationReq::decode(data);
    check_again(&request);
    let response = ActivationResp::decode(data);
    check_again(&response);
    if let Ok(ActivationResp { parameters: Some(parameters) }) = &response {
        // Debug output goes to logs; it must not hold what the variables hold.
        let shown = format!("{parameters:?}");
        assert!(
            parameters
                .env
                .values()
                .all(|value| value.len() < 16 || !shown.as_bytes().windows(value.len()).any(|part| part == value))
        );
        if check(parameters).is_ok() {
            let launch = launch(parameters.clone(), std::iter::empty());
            assert!(launch.argument_area_bytes(OsStr::new("app")) > 0);
            assert!(!launch.program().is_empty() || parameters.argv.first().is_some_and(String::is_empty));
        }
    }
    Verdict::of(&request).or(Verdict::of(&response))
}

fn check_again<T: Message + Default + PartialEq>(decoded: &Result<T, prost::DecodeError>) {
    if let Ok(message) = decoded {
        let again = T::decode(message.encode_to_vec().as_slice()).expect("our own message reads");
        assert!(again == *message, "a message changed when it was written");
    }
}
