//! Collateral from a service: one that does its work, and one that does everything wrong.
//!
//! Each fault has a platform of its own, so that one Coordinator meets all of them at the same time.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use marblerun_software_tee::service::{CollateralService, Rule, ServiceOptions};
use marblerun_software_tee::{CollateralOptions, DevelopmentRoot};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::coordinator::{Coordinator, command};
use crate::deployment::{Deployment, GREETING};
use crate::programs::{Finished, Running, program, run};
use crate::site::{ROOT, Site};

const PCCS_URL: &str = "EDG_COORDINATOR_PCCS_URL";
const QCNL: &str = "EDG_COORDINATOR_QCNL";
const CACHE: &str = "EDG_COORDINATOR_COLLATERAL_CACHE";

/// The Coordinator's own platform, which is what the simulator is if nobody says otherwise.
const OWN: &str = "FF5357544545";

/// Longer than a Coordinator waits for a service.
const PATIENCE: Duration = Duration::from_secs(40);

/// A deployment whose Coordinator has no bundle, but a service.
struct Served {
    deployment: Deployment,
    service: CollateralService,
}

/// The platform number `number`; no other test's.
fn fmspc(number: usize) -> [u8; 6] {
    let mut fmspc = *b"\xFFSWT\0\0";
    fmspc[4..].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
    fmspc
}

fn hex(fmspc: [u8; 6]) -> String {
    fmspc.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn start_service(site: &Site, rules: Vec<Rule>) -> CollateralService {
    let root = DevelopmentRoot::open(&site.path(ROOT), UnixTime::now()).unwrap();
    let further_platforms = (0..32).map(fmspc).collect();
    CollateralService::start(root, ServiceOptions { further_platforms, rules, ..Default::default() }).unwrap()
}

/// The Coordinator without bundle. The host may say where its service is.
fn coordinator_command(site: &Site) -> Command {
    site.configure("coordinator", |configuration| {
        let untrusted = configuration["env"]["untrusted"].as_array_mut().unwrap();
        for variable in [PCCS_URL, QCNL, CACHE].map(Value::from) {
            if !untrusted.contains(&variable) {
                untrusted.push(variable);
            }
        }
    });
    site.expect_coordinator("coordinator");
    let mut command = command(site, "coordinator", ROOT);
    command.env("EDG_COORDINATOR_COLLATERAL_DIR", "/host/empty");
    std::fs::create_dir_all(site.path("coordinator/host/empty")).unwrap();
    command
}

impl Served {
    /// With the sample's manifest after `change`.
    fn new(rules: Vec<Rule>, change: impl FnOnce(&mut Value)) -> Self {
        Self::configured(rules, change, |command, url| {
            command.env(PCCS_URL, url);
        })
    }

    fn configured(
        rules: Vec<Rule>,
        change: impl FnOnce(&mut Value),
        configure: impl FnOnce(&mut Command, &str),
    ) -> Self {
        let site = Site::new();
        site.coordinator_instance("coordinator", ROOT);
        let service = start_service(&site, rules);
        let mut command = coordinator_command(&site);
        configure(&mut command, &service.url());
        let coordinator = Coordinator::start_command(&mut command);
        let deployment = Deployment { site, coordinator }.with_manifest(change);
        Self { deployment, service }
    }

    /// A Marble on a platform, in an instance of its own, that waits for a minute.
    fn marble_command(&self, instance: &str, fmspc: &str) -> Command {
        let site = &self.deployment.site;
        if instance != "hello" {
            site.copy_instance("hello", instance);
        }
        let arguments = ["run", "--strict", "--instance", instance, "--root", ROOT, "--fmspc", fmspc, "--"];
        let mut command = site.sim(&arguments);
        command
            .arg("/bin/premain-libos")
            .env("EDG_MARBLE_TYPE", "hello")
            .env("EDG_MARBLE_COORDINATOR_ADDR", &self.deployment.coordinator.mesh)
            .env("EDG_MARBLE_ACTIVATION_TIMEOUT", "55s");
        command
    }

    fn start_marble(&self, instance: &str, fmspc: &str) -> Running {
        Running::start(&mut self.marble_command(instance, fmspc))
    }

    #[track_caller]
    fn marble(&self, instance: &str, fmspc: &str) -> Finished {
        self.start_marble(instance, fmspc).finish()
    }
}

fn wait_for_unavailable(marble: &mut Running, what: &str) {
    marble.wait_for(&format!("word about the wait with {what}"), |log| log.contains("UNAVAILABLE").then_some(()));
}

// rules: ATT-10.3, ATT-2.2
#[test]
fn a_first_activation_fetches_collateral_from_the_service_and_later_ones_do_not() {
    let served = Served::new(Vec::new(), |_| ());
    served.marble("hello", "FF5357540001").success().says(&[GREETING]);
    let asked = |part: &str| served.service.requests().iter().filter(|request| request.contains(part)).count();
    for part in ["tcb?fmspc=FF5357540001", "pckcrl?ca=platform", "qe/identity", "rootcacrl"] {
        assert!(asked(part) >= 1, "{part}: {:?}", served.service.requests());
    }
    served.marble("second", "FF5357540001").success().says(&[GREETING]);
    assert_eq!(asked("tcb?fmspc=FF5357540001"), 1, "{:?}", served.service.requests());
}

#[test]
fn a_qcnl_file_names_the_service() {
    let served = Served::configured(
        Vec::new(),
        |_| (),
        |command, url| {
            let directory = command.get_current_dir().unwrap().to_owned();
            let text = format!("{{\n  // of this network\n  \"pccs_url\": \"{url}\"\n}}\n");
            std::fs::write(directory.join("coordinator/host/qcnl.conf"), text).unwrap();
            command.env(QCNL, "/host/qcnl.conf");
        },
    );
    served.marble("hello", "FF5357540001").success().says(&[GREETING]);
}

// rules: ATT-11.1
#[test]
fn a_cache_on_the_untrusted_disk_replaces_the_service_after_a_restart() {
    let mut served = Served::configured(
        Vec::new(),
        |_| (),
        |command, url| {
            command.env(PCCS_URL, url).env(CACHE, "/host/cache");
        },
    );
    served.marble("hello", OWN).success();
    served.deployment.coordinator.kill();
    // Nobody listens at the address any more.
    let url = served.service.url();
    served.service = start_service(&served.deployment.site, Vec::new());
    let mut again = coordinator_command(&served.deployment.site);
    again.env(PCCS_URL, url).env(CACHE, "/host/cache");
    served.deployment.coordinator = Coordinator::start_command(&mut again);
    served.marble("second", OWN).success().says(&[GREETING]);
    assert!(served.service.requests().is_empty());

    // What the command line makes of the cache.
    let flags =
        ["collateral", "export", "coordinator/host/cache", "-o", "bundle", "--trust-software-root", "root/root.pem"];
    run(&mut served.deployment.site.command(program("marblerun"), &flags)).success().says(&["exported to bundle"]);
}

// rules: ATT-11.1
#[test]
fn a_valid_bundle_comes_before_a_silent_service() {
    let served = Served::new(vec![rule("silence")], |_| ());
    served.deployment.site.export_collateral(ROOT, "coordinator/host/empty", &CollateralOptions::default());
    served.marble("hello", OWN).success().says(&[GREETING]);
}

/// What a service does wrong on the wire and in form. `@` stands for another, good server.
const FAULTS: &[&str] = &[
    "silence",
    "endless",
    "over-long",
    "http=500",
    "http=503",
    "too-many-requests",
    "redirect",
    "redirect=@",
    "garbage",
    "closed",
    "cut",
    "wrong-content",
    "empty-body",
    "issuer-chain=missing",
    "issuer-chain=empty",
    "issuer-chain=garbage",
];

/// Other ways to say the same, which some services have.
const VARIANTS: &[&str] =
    &["issuer-chain=lower-case", "issuer-chain=old-name", "issuer-chain=both-names", "issuer-chain=not-encoded"];

// rules: ATT-11.2, ATT-11.3, ATT-11.5, STA-8.3
#[test]
fn each_fault_of_a_service_is_unavailable_for_its_platform_alone_and_heals_without_a_restart() {
    let served = Served::new(Vec::new(), |_| ());
    let other = start_service(&served.deployment.site, Vec::new());
    let other_url = other.url().replace("127.0.0.1", "localhost");
    let other_url = other_url.trim_end_matches("/sgx/certification/v4/");

    let faults = FAULTS.iter().enumerate().map(|(number, fault)| (hex(fmspc(number)), fault.replace('@', other_url)));
    let variants = VARIANTS.iter().enumerate().map(|(number, fault)| (hex(fmspc(24 + number)), (*fault).to_owned()));
    let of_platform = |(fmspc, fault): (String, String)| rule(&format!("{fmspc}:{fault}"));
    served.service.misbehave(faults.clone().chain(variants.clone()).map(of_platform));

    // The silent one is asked first; somebody else comes while nothing is answered.
    let mut waiting: Vec<(String, String, Running)> = Vec::new();
    for (fmspc, fault) in faults {
        let mut marble = served.start_marble(&format!("faulty-{fmspc}"), &fmspc);
        if fault == "silence" {
            assert!(served.service.wait_for_request(&format!("fmspc={fmspc}"), PATIENCE));
            served.marble("hello", OWN).success().says(&[GREETING]);
            assert!(!marble.log().contains("UNAVAILABLE"), "waited for the silent one: {}", marble.log());
        }
        waiting.push((fmspc, fault, marble));
    }
    for (fmspc, variant) in variants {
        let marble = served.marble(&format!("good-{fmspc}"), &fmspc);
        assert!(marble.code == 0, "{variant}: {}", marble.text());
    }
    served.deployment.cli(&["status", &served.deployment.coordinator.client]).success();

    // Each is healed as soon as it was felt, the slow ones last.
    let mut healing = Vec::new();
    while let Some((_, fault, mut marble)) = waiting.pop() {
        wait_for_unavailable(&mut marble, &fault);
        healing.push((fault, marble));
        served.service.misbehave(waiting.iter().map(|(fmspc, fault, _)| of_platform((fmspc.clone(), fault.clone()))));
    }
    for (fault, marble) in healing {
        let marble = marble.finish();
        assert!(marble.code == 0 && marble.text().contains(GREETING), "{fault}: {}", marble.text());
    }
    assert!(other.requests().is_empty(), "a redirection was followed: {:?}", other.requests());
}

// rules: ATT-11.3
#[test]
fn a_service_that_asks_for_a_pause_gets_it_while_known_platforms_go_on() {
    let served = Served::new(Vec::new(), |_| ());
    served.marble("hello", OWN).success();
    served.service.misbehave([rule("too-many-requests=3")]);
    let mut waiting = served.start_marble("first", &hex(fmspc(1)));
    wait_for_unavailable(&mut waiting, "a service that has had enough");
    served.marble("second", OWN).success().says(&[GREETING]);
    served.service.behave();
    waiting.finish().success().says(&[GREETING]);
}

// rules: ATT-10.4, ATT-11.2
#[test]
fn collateral_that_is_of_no_use_or_unknown_is_unavailable_and_named() {
    let served = Served::new(Vec::new(), |_| ());
    let cases = [
        ("expired", "expired"),
        ("not-yet-valid", "not valid before"),
        ("wrong-fmspc", "expected collateral for FMSPC"),
        ("tampered=tcb-info", "signature"),
        ("wrong-signer", "TCB"),
        // A service that does not know a platform is asked again after a longer pause.
        ("http=404", "no collateral for sgx"),
    ];
    let platforms: Vec<String> = (0..cases.len()).map(|number| hex(fmspc(number))).collect();
    served.service.misbehave(platforms.iter().zip(cases).map(|(fmspc, (fault, _))| rule(&format!("{fmspc}:{fault}"))));
    for (fmspc, (fault, word)) in platforms.iter().zip(cases) {
        let mut command = served.marble_command(fault.split('=').next().unwrap(), fmspc);
        let marble = run(command.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s"));
        assert_ne!(marble.code, 0, "{fault}");
        for word in ["UNAVAILABLE", word] {
            assert!(marble.text().contains(word), "{fault}: expected {word:?}, got:\n{}", marble.text());
        }
    }
}

// rules: ATT-10.4
#[test]
fn the_status_that_the_service_publishes_decides_with_the_package() {
    let served = Served::new(Vec::new(), |manifest| {
        // Nothing said: SWHardeningNeeded is accepted.
        manifest["Packages"]["hello"].as_object_mut().unwrap().remove("AcceptedTCBStatuses");
    });
    let statuses = ["UpToDate", "SWHardeningNeeded", "OutOfDate", "ConfigurationNeeded", "Revoked"];
    let platforms: Vec<String> = (0..statuses.len()).map(|number| hex(fmspc(number))).collect();
    let rules = platforms.iter().zip(statuses);
    served.service.misbehave(rules.map(|(fmspc, status)| rule(&format!("{fmspc}:tcb-status={status}"))));
    for (fmspc, status) in platforms.iter().zip(statuses) {
        let marble = served.marble(status, fmspc);
        if ["UpToDate", "SWHardeningNeeded"].contains(&status) {
            assert!(marble.code == 0, "{status}: {}", marble.text());
        } else {
            served.deployment.site.nothing_reached(status, &marble);
            marble.refused(&["PERMISSION_DENIED", status]);
        }
    }
}

// rules: ATT-11.4
#[test]
fn a_service_that_goes_back_behind_what_was_accepted_is_refused() {
    let mut served = Served::new(vec![rule("evaluation-number=7")], |_| ());
    served.marble("hello", OWN).success();
    served.deployment.coordinator.kill();
    served.service.misbehave([rule("evaluation-number=6")]);
    let mut again = coordinator_command(&served.deployment.site);
    again.env(PCCS_URL, served.service.url());
    served.deployment.coordinator = Coordinator::start_command(&mut again);
    let mut command = served.marble_command("second", OWN);
    let marble = run(command.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s"));
    served.deployment.site.nothing_reached("second", &marble);
    marble.refused(&["UNAVAILABLE", "evaluation", "7", "6"]);
}

// rules: ATT-11.2
#[test]
fn collateral_that_expires_while_the_coordinator_runs_stops_activations_only_and_until_there_is_newer() {
    const SECONDS: u64 = 4;
    let served = Served::new(vec![rule(&format!("valid-for={SECONDS}"))], |_| ());
    served.marble("hello", OWN).success();
    let url = served.service.url();
    let fetch = ["collateral", "fetch", "--fmspc", OWN, "--ca", "platform", "--url", &url, "-o", "short-lived"];
    let mut fetch = served.deployment.site.command(program("marblerun"), &fetch);
    run(fetch.args(["--trust-software-root", &format!("{ROOT}/root.pem")])).success();
    served.service.misbehave([rule("closed")]);
    // Nothing newer was issued, so in so many seconds everything is past its date.
    let off = seconds();
    while seconds() <= off + SECONDS + 1 {
        std::thread::sleep(Duration::from_millis(100));
    }

    let deployment = &served.deployment;
    let client = &deployment.coordinator.client;
    deployment.cli(&["status", client]).success();
    // With collateral that is valid the command line verifies, the Coordinator being as good as before; otherwise it
    // cannot, and names the item and its date, wherever the collateral comes from.
    deployment.cli(&["manifest", "verify", "manifest.json", client]).success();
    run(without_collateral(&served).args([client, "--collateral", "short-lived"]))
        .refused(&["expired", "it was valid until 20"]);
    run(without_collateral(&served).arg(client)).refused(&["expired", "it was valid until 20"]);

    let mut marble = served.start_marble("second", OWN);
    wait_for_unavailable(&mut marble, "expired collateral");
    deployment.site.nothing_reached_yet("second");
    served.service.behave();
    marble.finish().success().says(&[GREETING]);
    run(without_collateral(&served).arg(client)).success().says(&["OK"]);
}

/// `manifest verify` with the collateral that the Coordinator sends.
fn without_collateral(served: &Served) -> Command {
    let flags =
        ["manifest", "verify", "manifest.json", "--era-config", "era.json", "--coordinator-cert", "another.pem"];
    let mut command = served.deployment.site.command(program("marblerun"), &flags);
    command.args(["--trust-software-root", &format!("{ROOT}/root.pem")]);
    command
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

// rules: ATT-11.3
#[test]
fn an_address_at_which_nobody_listens_is_unavailable_with_the_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let served = Served::configured(
        Vec::new(),
        |_| (),
        |command, _| {
            command.env(PCCS_URL, format!("http://{free}/sgx/certification/v4/"));
        },
    );
    let mut command = served.marble_command("hello", OWN);
    run(command.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s")).refused(&["UNAVAILABLE", OWN, &free.to_string()]);
}
