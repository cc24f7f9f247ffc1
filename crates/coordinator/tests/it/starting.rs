//! What happens before the listeners answer.

use marblerun_coordinator::listener::Limits;
use marblerun_coordinator::start::start;

use crate::running::{MANIFEST, Running, config, write_file};

/// The one line that ends the process.
async fn failure(config: marblerun_coordinator::config::Config) -> String {
    match start(config).await {
        Ok(_) => panic!("expected a refusal"),
        Err(error) => format!("{error:#}"),
    }
}

// rules: STA-2.13, R1
#[tokio::test]
async fn without_a_tee_and_without_asking_for_simulation_nothing_starts() {
    let directory = tempfile::tempdir().unwrap();
    for (value, expected) in [(None, "no TEE found"), (Some("0"), "no TEE found"), (Some("yes"), "OE_SIMULATION")] {
        let mut config = config(directory.path());
        config.simulation = value.map(str::to_owned);
        let text = failure(config).await;
        assert!(text.contains(expected), "{text}");
        assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "nothing was written");
    }
}

#[tokio::test]
async fn a_second_coordinator_on_one_seal_directory_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::again(directory.path()).await;
    let text = failure(config(directory.path())).await;
    assert!(text.contains("in use by another process") && text.contains("EDG_COORDINATOR_SEAL_DIR"), "{text}");
    running.set_manifest().await;
}

// rules: STA-7.3
#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_variable() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start().await;
    let mut config = config(directory.path());
    config.mesh_addr = running.mesh;
    let text = failure(config).await;
    assert!(text.contains("EDG_COORDINATOR_MESH_ADDR") && text.contains(&running.mesh.to_string()), "{text}");
}

// rules: DEP-3
#[tokio::test]
async fn a_qcnl_file_that_is_not_understood_ends_the_start_with_its_line() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(directory.path());
    let broken = b"{\n\"pccs_url\": \"https://a/sgx/certification/v4/\"\n\"use_secure_cert\": true}";
    config.qcnl = Some(write_file(files.path(), broken));
    let text = failure(config.clone()).await;
    assert!(text.starts_with("EDG_COORDINATOR_QCNL: ") && text.contains("line 3"), "{text}");
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "nothing was written");
    config.qcnl = Some(files.path().join("missing"));
    assert!(failure(config.clone()).await.contains("missing cannot be read"));
    config.qcnl = Some(write_file(files.path(), b"PCCS_URL=https://a/sgx/certification/v4/"));
    Running::of(config, Limits::default()).await.set_manifest().await;
}

// rules: R14
#[tokio::test]
async fn a_start_up_manifest_is_set_and_the_same_one_again_is_no_mistake() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(directory.path());
    config.startup_manifest = Some(write_file(files.path(), MANIFEST.as_bytes()));
    for _ in 0..2 {
        let running = Running::of(config.clone(), Limits::default()).await;
        running.activate("web").await.unwrap();
    }
}

// rules: R14
#[tokio::test]
async fn a_start_up_manifest_that_is_another_one_ends_the_start() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = Running::again(directory.path()).await;
    running.set_manifest().await;
    drop(running);
    // Wait until the directory is free again.
    drop(Running::again(directory.path()).await);
    let mut config = config(directory.path());
    config.startup_manifest = Some(write_file(files.path(), format!("{MANIFEST} ").as_bytes()));
    let text = loop {
        let text = failure(config.clone()).await;
        if !text.contains("in use") {
            break text;
        }
        tokio::task::yield_now().await;
    };
    assert!(text.contains("EDG_STARTUP_MANIFEST") && text.contains("already set"), "{text}");
}

#[tokio::test]
async fn a_start_up_manifest_that_is_refused_missing_or_too_long_ends_the_start() {
    let files = tempfile::tempdir().unwrap();
    let check = async |content: Option<&[u8]>, expected: &str| {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        config.startup_manifest = Some(match content {
            Some(content) => write_file(files.path(), content),
            None => files.path().join("nothing"),
        });
        let text = failure(config).await;
        assert!(text.contains("EDG_STARTUP_MANIFEST") && text.contains(expected), "{text}");
    };
    check(Some(b"{}"), "Packages").await;
    check(Some(b"{"), "decoded").await;
    check(Some(&vec![b' '; 16 * 1024 * 1024 + 1]), "16777216 bytes, got more").await;
    check(None, "nothing").await;
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.startup_manifest = Some("/dev/zero".into());
    let text = failure(config).await;
    assert!(text.contains("EDG_STARTUP_MANIFEST") && text.contains("expected a regular file"), "{text}");
}

// rules: STA-2.4, SET-4
#[tokio::test]
async fn a_state_that_does_not_open_means_recovery_and_a_new_manifest_replaces_it() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::again(directory.path()).await;
    running.set_manifest().await;
    let root = running.get("/api/v2/quote").await.data()["cert"].clone();
    drop(running);
    // Wait until the directory is free again.
    drop(Running::again(directory.path()).await);
    std::fs::remove_file(directory.path().join("sealed_key")).unwrap();

    let running = Running::again(directory.path()).await;
    let status = running.get("/api/v2/status").await.text;
    assert!(status.contains(":1,"), "{status}");
    for path in ["/api/v2/manifest", "/api/v2/update"] {
        let answer = running.get(path).await;
        assert!(answer.text.contains("got one in recovery mode"), "{}", answer.text);
    }
    assert_ne!(running.get("/api/v2/quote").await.data()["cert"], root, "a temporary identity");
    assert_eq!(running.activate("web").await.unwrap_err().code, 9);
    assert!(directory.path().join("sealed_data").exists(), "nothing was touched");
    running.set_manifest().await;
    running.activate("web").await.unwrap();
    let kept = std::fs::read_dir(directory.path())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("replaced-"));
    assert!(kept, "the old files are kept");
    let temporary = running.get("/api/v2/quote").await.data()["cert"].clone();
    drop(running);

    let running = Running::again(directory.path()).await;
    assert_eq!(running.get("/api/v2/quote").await.data()["cert"], temporary, "the temporary identity is permanent now");
    running.activate("web").await.unwrap();
}

// rules: STA-2.6, SAFE-14
#[tokio::test]
async fn with_sealing_disabled_nothing_is_left_after_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::again(directory.path()).await;
    let manifest = MANIFEST.replacen('{', r#"{"Config": {"SealMode": "Disabled"},"#, 1);
    let answer = running.ask("POST", "/manifest", manifest).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    running.activate("once").await.unwrap();
    assert_eq!(running.activate("once").await.unwrap_err().code, 7);
    drop(running);
    let running = Running::again(directory.path()).await;
    assert!(running.get("/api/v2/status").await.text.contains(":2,"));
}
