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
        // Debug output goes to logs: it tells names, sizes and numbers, and is the same whatever the contents are.
        let mut blank = parameters.clone();
        blank.files.values_mut().chain(blank.env.values_mut()).for_each(|content| content.fill(0));
        blank.argv.iter_mut().for_each(String::clear);
        assert_eq!(format!("{blank:?}"), format!("{parameters:?}"));
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
