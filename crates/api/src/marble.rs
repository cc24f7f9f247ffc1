//! What the definition of the Marble API does not say.

use std::fmt;

use crate::rpc::Parameters;

/// Path of the only method of the Marble API.
pub const ACTIVATE_PATH: &str = "/rpc.Marble/Activate";

/// The largest message, in bytes, that every Coordinator and every Marble accepts: the default of existing gRPC
/// implementations. Ours may be told to accept more, but cannot count on it at the other end.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Names and sizes only: files and variables hold secrets.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = |map: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<(String, usize)> {
            map.iter().map(|(name, content)| (name.clone(), content.len())).collect()
        };
        f.debug_struct("Parameters")
            .field("file_sizes", &sizes(&self.files))
            .field("env_sizes", &sizes(&self.env))
            .field("argv_count", &self.argv.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::rpc::{ActivationReq, ActivationResp};

    #[test]
    fn debug_output_of_an_answer_does_not_contain_its_secrets() {
        let env = [("TOKEN".to_owned(), b"hunter2".to_vec())].into();
        let answer =
            ActivationResp { parameters: Some(Parameters { env, argv: vec!["hunter2".into()], ..Default::default() }) };
        let text = format!("{answer:?}");
        assert!(!text.contains("hunter2") && text.contains("TOKEN"), "{text}");
    }

    // rules: ACT-1.1
    #[test]
    fn request_fields_begin_with_the_bytes_that_existing_marbles_send() {
        let request = ActivationReq { quote: vec![1], csr: vec![2], marble_type: "m".into(), uuid: "u".into() };
        assert_eq!(request.encode_to_vec(), b"\x0a\x01\x01\x12\x01\x02\x1a\x01m\x22\x01u");
    }

    // rules: ACT-1.1
    #[test]
    fn parameters_are_field_1_and_map_entries_are_nested_messages() {
        let files = [("/f".to_owned(), vec![7])].into();
        let answer =
            ActivationResp { parameters: Some(Parameters { files, argv: vec!["a".into()], ..Default::default() }) };
        assert_eq!(answer.encode_to_vec(), b"\x0a\x0c\x0a\x07\x0a\x02/f\x12\x01\x07\x1a\x01a");
    }
}
