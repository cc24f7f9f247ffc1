//! Collateral that is missing, old or older than before.

mod over_http;

use std::fs;
use std::time::Duration;

use marblerun_software_tee::{CollateralOptions, Dates};
use rustls_pki_types::UnixTime;

use crate::deployment::{Deployment, GREETING};
use crate::programs::{Finished, Running, run};
use crate::site::ROOT;

const BUNDLE: &str = "coordinator/host/collateral";

/// A Marble that does not wait long.
fn impatient(deployment: &Deployment) -> Finished {
    let mut command = deployment.marble_command("hello", "hello");
    run(command.env("EDG_MARBLE_ACTIVATION_TIMEOUT", "1s"))
}

// rules: ATT-11.2
#[test]
fn a_marble_waits_for_missing_collateral_and_starts_once_it_is_there() {
    let mut deployment = Deployment::new(|_| ());
    let bundle = deployment.site.path(BUNDLE).join("dcap");
    let away = deployment.site.path("away");
    fs::rename(&bundle, &away).unwrap();
    // It may not look at the directory again at once.
    deployment.restart();

    let mut marble =
        Running::start(deployment.marble_command("hello", "hello").env("EDG_MARBLE_ACTIVATION_TIMEOUT", "60s"));
    let refusal = deployment.coordinator.wait_for(&["activation refused"]);
    assert_eq!(refusal["code"], "Unavailable", "{refusal}");
    marble.wait_for("word about the wait", |log| log.contains("UNAVAILABLE").then_some(()));
    deployment.site.nothing_reached_yet("hello");
    fs::rename(&away, &bundle).unwrap();
    marble.finish().success().says(&[GREETING]);
}

#[test]
fn expired_collateral_is_unavailable_and_named_with_its_date() {
    let mut deployment = Deployment::new(|_| ());
    let now = UnixTime::now().as_secs();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let dates = Dates { issued: at(now - 7200), next_update: at(now - 3600) };
    let options = CollateralOptions { tcb_info_dates: Some(dates), ..Default::default() };
    deployment.site.export_collateral(ROOT, BUNDLE, &options);
    deployment.restart();

    let marble = impatient(&deployment);
    deployment.site.nothing_reached("hello", &marble);
    marble.refused(&["UNAVAILABLE", "TCB info", "expired", "Z"]);
    let refusal = deployment.coordinator.wait_for(&["activation refused"]);
    assert_eq!(refusal["code"], "Unavailable", "{refusal}");
}

// rules: ATT-11.4
#[test]
fn collateral_with_a_lower_evaluation_number_is_refused_until_newer_collateral_is_there() {
    let mut deployment = Deployment::new(|_| ());
    let numbered = |number| CollateralOptions { evaluation_number: number, ..Default::default() };
    deployment.site.export_collateral(ROOT, BUNDLE, &numbered(7));
    deployment.restart();
    deployment.marble("hello", "hello").success();
    fs::remove_file(deployment.site.path("hello/host/certificate.pem")).unwrap();
    fs::remove_dir_all(deployment.site.path("hello/run")).unwrap();

    deployment.site.export_collateral(ROOT, BUNDLE, &numbered(6));
    deployment.restart();
    let marble = impatient(&deployment);
    deployment.site.nothing_reached("hello", &marble);
    marble.refused(&["UNAVAILABLE", "evaluation", "expected", "7", "got 6"]);

    deployment.site.export_collateral(ROOT, BUNDLE, &numbered(7));
    deployment.marble("hello", "hello").success().says(&[GREETING]);
}
