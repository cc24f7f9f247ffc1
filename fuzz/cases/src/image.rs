//! Files of the measured image, and the file with a Marble's UUID.
//!
//! Their readers take a path, so that they can refuse what is no regular file and read no more than a limit; each
//! input is therefore written into a file of a private directory first.

use std::path::Path;
use std::sync::LazyLock;

use marblerun_api::rpc::Parameters;
use marblerun_marble::{CoordinatorPin, Restrictions, uuid_file as stored_uuid};
use marblerun_tee::{TrustClass, TrustPolicy, read_trust};

use crate::Verdict;

/// Most roots that `trust.json` may name.
const MAX_TRUST_ROOTS: usize = 8;

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(|| Parameters {
    files: [("/etc/app/a".to_owned(), Vec::new()), ("../b".to_owned(), Vec::new())].into(),
    env: [("APP_A".to_owned(), b"1".to_vec()), ("MARBLE_PREDEFINED_ROOT_CA".to_owned(), b"2".to_vec())].into(),
    argv: vec!["/bin/app".to_owned()],
});

/// Runs `read` with the path of a file that holds `data`.
fn with_file<T>(data: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("the directory for temporary files is writable");
    }
    DIRECTORY.with(|directory| {
        let path = directory.path().join("input");
        std::fs::write(&path, data).expect("a file can be written into a new directory");
        let result = read(&path);
        assert_eq!(std::fs::read(&path).ok().as_deref(), Some(data), "reading changed the file");
        result
    })
}

/// `trust.json`: software always names its roots.
pub fn trust_file(data: &[u8]) -> Verdict {
    let read = with_file(data, read_trust);
    if let Ok(TrustPolicy { class: TrustClass::Software { roots }, .. }) = &read {
        assert!((1..=MAX_TRUST_ROOTS).contains(&roots.len()), "{} roots", roots.len());
        assert!(roots.iter().all(|root| root.first() == Some(&0x30)), "a root is an ASN.1 sequence");
    }
    Verdict::of(&read)
}

/// `coordinator.json`: a pin that was read refuses who does not prove anything.
pub fn pin_file(data: &[u8]) -> Verdict {
    let read = with_file(data, CoordinatorPin::read);
    if let Ok(pin) = &read {
        let pin = pin.as_ref().expect("a present file gives a pin");
        assert!(pin.check(&PARAMETERS, &[]).is_err());
    }
    Verdict::of(&read)
}

/// `premain.json`: restrictions decide about any parameters, and the predefined variables are always allowed.
pub fn restrictions_file(data: &[u8]) -> Verdict {
    let read = with_file(data, Restrictions::read);
    if let Ok(restrictions) = &read {
        let _ = restrictions.check(&PARAMETERS);
        let predefined = PARAMETERS.env.iter().filter(|(name, _)| name.starts_with("MARBLE_PREDEFINED_"));
        let only = Parameters {
            env: predefined.map(|(name, value)| (name.clone(), value.clone())).collect(),
            ..PARAMETERS.clone()
        };
        let without_files = Parameters { files: Default::default(), ..only };
        if let Err(error) = restrictions.check(&without_files) {
            assert!(error.to_string().contains("programs"), "only the program can be refused: {error}");
        }
    }
    Verdict::of(&read)
}

/// The file with a Marble's UUID: a present file is read or refused, never replaced.
pub fn uuid_file(data: &[u8]) -> Verdict {
    let read = with_file(data, stored_uuid::load_or_create);
    if let Ok(stored) = &read {
        assert!(!stored.is_new && !stored.uuid.is_nil());
    }
    Verdict::of(&read)
}
