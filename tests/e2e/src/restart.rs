//! What survives a Coordinator that is killed, and what does not open elsewhere.

use std::time::Duration;

use crate::coordinator::{Coordinator, command, environment};
use crate::deployment::{Deployment, GREETING};
use crate::programs::{Running, program, run};
use crate::site::{ROOT, Site};

/// A deployment whose Marbles may be activated `limit` times.
fn with_budget(limit: u32) -> Deployment {
    Deployment::new(|manifest| manifest["Marbles"]["hello"]["MaxActivations"] = limit.into())
}

// rules: ACT-2.2, STA-1.3
#[test]
fn manifest_root_and_used_budget_survive_a_killed_coordinator() {
    let mut deployment = with_budget(1);
    deployment.marble("hello", "hello").success().says(&[GREETING]);
    deployment.restart();
    deployment.coordinator.wait_for(&["sealed state opened"]);

    let client = deployment.coordinator.client.clone();
    let verify = ["manifest", "verify", "manifest.json", &client];
    assert!(deployment.cli(&verify).success().stdout.ends_with("OK\n"));
    deployment.cli(&["certificate", "root", &client, "--output", "root-after.pem"]).success();
    assert_eq!(deployment.site.read("root.pem"), deployment.site.read("root-after.pem"));

    deployment.site.copy_instance("hello", "second");
    let marble = deployment.marble("second", "hello");
    deployment.site.nothing_reached("second", &marble);
    marble.refused(&["PERMISSION_DENIED", "hello", "1"]);
    let event = deployment.coordinator.wait_for(&["activation refused"]);
    assert_eq!(event["reason"], "budget");
}

// rules: ACT-2.2
#[test]
fn a_coordinator_that_is_killed_at_any_moment_of_an_activation_never_grants_more_than_the_budget() {
    const BUDGET: usize = 3;
    let mut deployment = with_budget(BUDGET as u32);
    let mut granted = 0;
    // The delays cover an activation from its start to its end; where exactly they hit does not matter.
    for delay in (0..14).map(|step| Duration::from_millis(step * 12)) {
        let mut marble = deployment.marble_command("hello", "hello");
        marble.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "0");
        let marble = Running::start(&mut marble);
        std::thread::sleep(delay);
        deployment.restart();
        let marble = marble.finish();
        granted += usize::from(marble.text().contains(GREETING));
        let log = deployment.coordinator.log();
        assert!(log.contains("sealed state opened"), "expected the state to open, got:\n{log}");
    }
    // What is left of the budget is still there, and no more than that.
    while deployment.marble("hello", "hello").code == 0 {
        granted += 1;
        assert!(granted <= BUDGET, "expected at most {BUDGET} activations, got {granted}");
    }
    deployment.coordinator.wait_for(&["activation refused", "budget"]);
    let client = deployment.coordinator.client.clone();
    deployment.cli(&["manifest", "verify", "manifest.json", &client]).success();
}

#[test]
fn state_of_one_development_root_does_not_open_under_another() {
    let mut deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    deployment.coordinator.kill();
    site.make_root("other-root");
    site.trust("coordinator", "other-root");
    site.export_collateral("other-root", "coordinator/host/collateral", &Default::default());
    site.export_collateral("other-root", "other-collateral", &Default::default());
    site.expect_coordinator("coordinator");

    let mut other = Coordinator::start_command(&mut command(site, "coordinator", "other-root"));
    other.wait_for(&["sealed state cannot be opened", "other software trust roots", "trust.json"]);
    let status = run(site
        .command(program("marblerun"), &["status", &other.client, "--era-config", "era.json"])
        .args(["--trust-software-root", "other-root/root.pem", "--collateral", "other-collateral"]));
    let status = status.success();
    assert!(status.stdout.lines().any(|line| line.starts_with("1: ")), "expected recovery mode, got {status:?}");
    other.kill();

    // Nothing was lost by trying.
    site.trust("coordinator", ROOT);
    site.export_collateral(ROOT, "coordinator/host/collateral", &Default::default());
    site.expect_coordinator("coordinator");
    let again = Coordinator::start(site, "coordinator");
    run(&mut site.cli(&["manifest", "verify", "manifest.json", &again.client])).success();
}

// rules: STA-2.13, STA-7.2, R1
#[test]
fn simulation_inside_a_tee_is_fatal() {
    let site = Site::new();
    site.coordinator_instance("coordinator", ROOT);
    site.configure("coordinator", |configuration| {
        configuration["env"]["untrusted"].as_array_mut().unwrap().push("OE_SIMULATION".into());
    });
    let coordinator = run(command(&site, "coordinator", ROOT).env("OE_SIMULATION", "1"));
    assert_eq!(coordinator.code, 1);
    coordinator.refused(&["Error: ", "OE_SIMULATION"]);
    assert!(site.files_below("coordinator/host/state").is_empty());
}

#[test]
fn without_a_tee_the_coordinator_starts_only_if_simulation_is_asked_for() {
    let site = Site::new();
    let coordinator = || {
        let mut command = site.command(program("marblerun-coordinator"), &[]);
        environment(&mut command, "outside");
        command.env_remove("EDG_COORDINATOR_COLLATERAL_DIR");
        command
    };
    let refused = run(&mut coordinator());
    assert_eq!(refused.code, 1);
    refused.refused(&["Error: no TEE found", "OE_SIMULATION=1"]);
    assert!(site.files_below("outside").is_empty());
    Coordinator::start_command(coordinator().env("OE_SIMULATION", "1"))
        .wait_for(&["simulation", "nothing is protected"]);
}
