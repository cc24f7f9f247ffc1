//! The pinned Coordinator, and those that pretend to be it.

use aws_lc_rs::digest::{SHA256, digest};
use marblerun_api::rpc::Parameters;
use marblerun_marble::{Chain, CoordinatorPin, ImagePolicy, Restrictions};

use crate::activation::{EchoIssuer, activate, config};
use crate::coordinator::{Answer, Coordinator, Identity};

fn pinned(identity: &Identity) -> ImagePolicy {
    let pin = CoordinatorPin::new(digest(&SHA256, &identity.root).as_ref().try_into().unwrap());
    ImagePolicy { pin: Some(pin), restrictions: Restrictions::default() }
}

fn run(coordinator: &Coordinator, image: &ImagePolicy) -> (Result<Parameters, String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (result, lines) = activate(&config(coordinator.address, dir.path()), image, &EchoIssuer);
    (result.map_err(|error| Chain(&error).to_string()), lines)
}

#[test]
fn the_pinned_coordinator_is_believed() {
    let identity = Identity::new();
    let coordinator = Coordinator::start(&identity, vec![Answer::Parameters(identity.parameters())]);
    let (result, lines) = run(&coordinator, &pinned(&identity));
    assert!(result.is_ok(), "{result:?}");
    assert!(lines.iter().any(|line| line == "the Coordinator is the pinned one"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("no pinned")), "{lines:?}");
}

#[test]
fn a_coordinator_with_another_root_is_refused() {
    let (identity, other) = (Identity::new(), Identity::new());
    let coordinator = Coordinator::start(&other, vec![Answer::Parameters(other.parameters())]);
    let error = run(&coordinator, &pinned(&identity)).0.unwrap_err();
    assert!(error.starts_with("the Coordinator is refused: expected the root certificate with SHA-256 "), "{error}");
}

#[test]
fn a_coordinator_that_replays_the_certificates_of_the_pinned_one_is_refused() {
    let (identity, other) = (Identity::new(), Identity::new());
    let coordinator = Coordinator::start(&other, vec![Answer::Parameters(identity.parameters())]);
    let error = run(&coordinator, &pinned(&identity)).0.unwrap_err();
    assert!(error.starts_with("the Coordinator is refused: the TLS server's key is not the key"), "{error}");
}

#[test]
fn a_server_that_shows_the_certificate_of_the_pinned_one_without_its_key_is_refused() {
    let (identity, other) = (Identity::new(), Identity::new());
    let script = vec![Answer::Parameters(identity.parameters())];
    let coordinator = Coordinator::start_with(&identity.marble_root, &other.key, &[b"h2"], script);
    let error = run(&coordinator, &pinned(&identity)).0.unwrap_err();
    assert!(error.contains("TLS handshake with") && error.contains("BadSignature"), "{error}");
    assert!(coordinator.calls().is_empty());
}

#[test]
fn a_delivery_without_certificates_is_refused() {
    let identity = Identity::new();
    let coordinator = Coordinator::start(&identity, vec![Answer::Parameters(Parameters::default())]);
    let error = run(&coordinator, &pinned(&identity)).0.unwrap_err();
    assert!(error.contains("MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"), "{error}");
}

#[test]
fn what_the_image_does_not_allow_is_refused_even_from_the_pinned_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("premain.json");
    std::fs::write(&file, r#"{"Programs":["/bin/app"]}"#).unwrap();
    let identity = Identity::new();
    let coordinator = Coordinator::start(&identity, vec![Answer::Parameters(identity.parameters())]);
    let image = ImagePolicy { restrictions: Restrictions::read(&file).unwrap(), ..pinned(&identity) };
    let error = run(&coordinator, &image).0.unwrap_err();
    assert_eq!(error, r#"premain.json allows the programs ["/bin/app"], the Coordinator sent "./marble""#);
}
