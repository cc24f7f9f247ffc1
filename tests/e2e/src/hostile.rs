//! What holds against a host that does all that a host can.

use std::fs;
use std::process::Command;
use std::time::Duration;

use marblerun_software_tee::{CollateralOptions, Dates};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::coordinator::{Coordinator, environment};
use crate::deployment::{Deployment, GREETING, sample_manifest};
use crate::programs::run;
use crate::site::{ROOT, Site};
use crate::tls_proxy;

/// Where the Coordinator's host keeps what it found out.
const REPORT: &str = "report.jsonl";

impl Site {
    /// `marble-sim hostile` with these steps, before the instance and its program.
    fn hostile(&self, steps: &Value, instance: &str, program: &str) -> Command {
        self.write("plan.json", json!({"steps": steps}).to_string());
        self.write(REPORT, "");
        let mut command = self.sim(&["hostile", "--plan", "plan.json", "--report", REPORT, "--strict"]);
        command.args(["--instance", instance, "--root", ROOT, "--", program]);
        command
    }

    /// A Coordinator on a host with these steps.
    fn hostile_coordinator(&self, steps: &Value, instance: &str) -> Command {
        let mut command = self.hostile(steps, instance, "/bin/marblerun-coordinator");
        environment(&mut command, "/host");
        command
    }

    /// The lines of the report up to now.
    fn harm(&self) -> Vec<Value> {
        let text = String::from_utf8(self.read(REPORT)).unwrap();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Fails unless the step was done.
    #[track_caller]
    fn done(&self, step: usize) {
        let harm = self.harm();
        assert!(harm.iter().any(|line| line["step"] == step && line["result"] == "done"), "step {step}: {harm:#?}");
    }
}

#[test]
fn a_coordinator_in_the_place_of_the_true_one_gives_a_marble_nothing() {
    let deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    site.coordinator_instance("impostor", ROOT);
    let mut impostor = Coordinator::start(site, "impostor");
    run(&mut site.cli(&["manifest", "set", "manifest.json", &impostor.client])).success();

    let steps =
        json!([{"at": "start", "do": {"redirect": {"from": deployment.coordinator.mesh, "to": impostor.mesh}}}]);
    let mut marble = site.hostile(&steps, "hello", "/bin/premain-libos");
    marble.env("EDG_MARBLE_TYPE", "hello").env("EDG_MARBLE_COORDINATOR_ADDR", &deployment.coordinator.mesh);
    let marble = run(marble.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "20s"));
    site.nothing_reached("hello", &marble);
    marble.refused(&["the Coordinator is refused: expected the root certificate with SHA-256", ", got one with "]);
    // It was not for want of an answer.
    impostor.wait_for(&["Marble activated"]);
}

#[test]
fn a_marble_whose_environment_is_taken_away_or_doubled_is_not_given_more() {
    let deployment = Deployment::new(|_| ());
    let site = &deployment.site;
    let with = |change: Value| {
        let steps = json!([{"at": "start", "do": {"environment": change}}]);
        let mut marble = site.hostile(&steps, "hello", "/bin/premain-libos");
        marble.env("EDG_MARBLE_TYPE", "hello").env("EDG_MARBLE_COORDINATOR_ADDR", &deployment.coordinator.mesh);
        run(marble.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s"))
    };
    let marble = with(json!({"drop": ["EDG_MARBLE_TYPE"]}));
    site.nothing_reached("hello", &marble);
    let marble = with(json!({"duplicate": {"EDG_MARBLE_TYPE": "other"}}));
    // The first one counts, as for getenv(3).
    marble.success().says(&[GREETING]);
}

#[test]
fn a_coordinator_whose_quotes_fail_still_answers_all_else_and_recovers() {
    let site = Site::new();
    site.coordinator_instance("coordinator", ROOT);
    site.expect_coordinator("coordinator");
    let mut noted =
        Coordinator::start_command(&mut site.hostile_coordinator(&quotes(1, 100, json!("note")), "coordinator"));
    let at_start = site.harm().len() as u32;
    noted.kill();

    let steps = quotes(at_start + 1, 4, json!({"fail": {"errno": "EINVAL"}}));
    let coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
    run(&mut site.cli(&["status", &coordinator.client])).refused(&["quote"]);
    assert_eq!(site.harm().len(), 4, "expected as many tries as fail");
    let request = b"GET /api/v2/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = tls_proxy::exchange(&coordinator.client, request).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    run(&mut site.cli(&["status", &coordinator.client])).success();
}

fn quotes(nth: u32, times: u32, action: Value) -> Value {
    json!([{"at": {"call": {"name": "quote", "nth": nth, "times": times}}, "do": action}])
}

#[test]
fn a_clock_that_is_turned_back_makes_no_old_collateral_valid_again() {
    const AGO: u64 = 90 * 60;
    let mut deployment = Deployment::new(|_| ());
    deployment.marble("hello", "hello").success();
    deployment.coordinator.kill();
    let site = &deployment.site;
    fs::remove_file(site.path("hello/host/certificate.pem")).unwrap();
    fs::remove_dir_all(site.path("hello/run")).unwrap();

    // Valid at the time to which the clock is turned, and expired now.
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() - seconds));
    let dates = || Some(Dates { issued: at(AGO + 1800), next_update: at(AGO - 1800) });
    let options = CollateralOptions {
        tcb_info_dates: dates(),
        qe_identity_dates: dates(),
        root_crl_dates: dates(),
        pck_crl_dates: dates(),
        ..Default::default()
    };
    site.export_collateral(ROOT, "coordinator/host/collateral", &options);
    let steps = json!([{"at": "start", "do": {"clock": {"offset_seconds": -(AGO as i64)}}}]);
    let before = time_of(at(AGO));
    deployment.coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
    let (log, after) = (deployment.coordinator.log(), time_of(at(AGO)));
    assert!(log.contains(&before) || log.contains(&after), "expected a log of {before}, got:\n{log}");

    let mut marble = deployment.marble_command("hello", "hello");
    let marble = run(marble.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s"));
    deployment.site.nothing_reached("hello", &marble);
    marble.refused(&["UNAVAILABLE", "expired"]);
    let refusal = deployment.coordinator.wait_for(&["activation refused"]);
    assert_eq!(refusal["code"], "Unavailable", "{refusal}");
}

/// Date and hour, as in a log.
fn time_of(time: UnixTime) -> String {
    let command = ["-u", "-d", &format!("@{}", time.as_secs()), "+%Y-%m-%dT%H:"];
    run(Command::new("date").args(command)).success().stdout.trim().to_owned()
}

// rules: STA-1.3
#[test]
fn a_coordinator_killed_at_any_flush_or_renaming_has_a_manifest_that_it_acknowledged() {
    for kind in ["fsync", "rename"] {
        let site = Site::new();
        site.coordinator_instance("coordinator", ROOT);
        site.expect_coordinator("coordinator");
        site.write("manifest.json", sample_manifest(&"ab".repeat(32)).to_string());
        let set = |client: &str| run(&mut site.cli(&["manifest", "set", "manifest.json", client, "--allow-warnings"]));
        let call =
            |nth: u32, times: u32| json!({"call": {"name": kind, "path": "/host/state", "nth": nth, "times": times}});
        // A first start, so that there is a state to come back to.
        Coordinator::start(&site, "coordinator").kill();
        copy(&site, "coordinator/host", "before");

        let steps = json!([{"at": call(1, 1000), "do": "note"}]);
        let mut coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
        let at_start = site.harm().len() as u32;
        set(&coordinator.client).success();
        let in_all = site.harm().len() as u32;
        coordinator.kill();
        assert!(kind == "rename" || in_all > at_start, "a manifest is set without a flush");

        for nth in at_start + 1..=in_all {
            restore(&site, "before", "coordinator/host");
            forget_coordinator(&site);
            let steps = json!([{"at": call(nth, 1), "do": "kill"}]);
            let mut coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
            let acknowledged = set(&coordinator.client).code == 0;
            coordinator.kill();
            site.done(1);

            let coordinator = Coordinator::start(&site, "coordinator");
            forget_coordinator(&site);
            let has = run(&mut site.cli(&["manifest", "verify", "manifest.json", &coordinator.client])).code == 0;
            assert!(has || !acknowledged, "{kind} {nth}: acknowledged and lost");
            if !has {
                set(&coordinator.client).success();
            }
        }
    }
}

/// Removes what the client remembers: a state that the test brought back is not a roll-back by the host.
fn forget_coordinator(site: &Site) {
    for entry in fs::read_dir(site.path(".")).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("coordinator-cert") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn copy(site: &Site, from: &str, to: &str) {
    run(&mut site.command("cp", &["-a", "--", from, to])).success();
}

fn restore(site: &Site, from: &str, to: &str) {
    fs::remove_dir_all(site.path(to)).unwrap();
    copy(site, from, to);
}

#[test]
fn swapped_state_does_not_open_and_the_place_is_named() {
    let mut deployment = Deployment::new(|_| ());
    deployment.coordinator.kill();
    let site = &deployment.site;
    copy(site, "coordinator/host/state/sealed_data", "good");
    // Of another deployment.
    site.coordinator_instance("other", ROOT);
    Coordinator::start(site, "other").kill();
    copy(site, "other/host/state/sealed_data", "foreign");
    let mut flipped = site.read("good");
    let middle = flipped.len() - 100;
    flipped[middle] ^= 1;
    site.write("flipped", flipped);

    let foreign = ["sealed_data belongs to deployment", "but sealed_key to"];
    let flipped = ["record ", " at offset "];
    for (file, words) in [("foreign", foreign), ("flipped", flipped)] {
        let open = json!({"call": {"name": "open", "path": "/host/state/sealed_data", "nth": 1}});
        let steps = json!([{"at": open, "do": {"replace": {"file": "host/state/sealed_data", "with": file}}}]);
        let mut coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
        let event = coordinator.wait_for(&["sealed state cannot be opened"]);
        site.done(1);
        let fault = event["fault"].as_str().unwrap();
        assert!(words.iter().all(|word| fault.contains(word)), "{file}: {fault}");
        let verify = run(&mut site.cli(&["manifest", "verify", "manifest.json", &coordinator.client]));
        assert_ne!(verify.code, 0);
        coordinator.kill();
        copy(site, "good", "coordinator/host/state/sealed_data");
    }
    let coordinator = Coordinator::start(site, "coordinator");
    run(&mut site.cli(&["manifest", "verify", "manifest.json", &coordinator.client])).success();
}

/// How a client says that it remembers a newer state.
const OTHER_STATE: &str = "the Coordinator's state is not the one that is remembered";

#[test]
fn a_state_that_was_rolled_back_or_cloned_is_visible_to_a_client_that_remembers_the_newer_one() {
    let site = Site::new();
    site.coordinator_instance("coordinator", ROOT);
    site.expect_coordinator("coordinator");
    site.write("manifest.json", sample_manifest(&"ab".repeat(32)).to_string());
    Coordinator::start(&site, "coordinator").kill();
    let steps = json!([
        {"at": "start", "do": {"save": {"to": "saved"}}},
        {"at": "start", "do": {"clone": {"into": "clone"}}},
    ]);
    let mut coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
    site.done(1);
    site.done(2);
    run(&mut site.cli(&["manifest", "set", "manifest.json", &coordinator.client, "--allow-warnings"])).success();
    run(&mut site.cli(&["manifest", "verify", "manifest.json", &coordinator.client])).success();

    // The copy is genuine: only its past gives it away.
    let clone = Coordinator::start(&site, "clone");
    run(&mut site.cli(&["status", &clone.client])).refused(&[OTHER_STATE]);
    run(&mut site.cli(&["status", &coordinator.client])).success();
    coordinator.kill();

    let steps = json!([{"at": "start", "do": {"restore": {"from": "saved"}}}]);
    let coordinator = Coordinator::start_command(&mut site.hostile_coordinator(&steps, "coordinator"));
    site.done(1);
    run(&mut site.cli(&["status", &coordinator.client])).refused(&[OTHER_STATE]);
}
