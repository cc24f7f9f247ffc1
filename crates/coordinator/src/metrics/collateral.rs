//! Figures of collateral: whoever is woken at night sees here whether a source fails and how long what is there lasts.

use std::fmt::Write as _;

use marblerun_collateral::Figures;

use super::head;

/// Appends all figures. The number of platforms is limited, and the vendor certified each of them.
pub(super) fn write(figures: &Figures, text: &mut String) {
    let name = "coordinator_collateral_fetches_total";
    head(text, name, "counter", "Attempts to get collateral of a platform from the services.");
    for (result, count) in [("success", figures.fetched), ("failure", figures.failed)] {
        let _ = writeln!(text, "{name}{{result=\"{result}\"}} {count}");
    }
    let name = "coordinator_collateral_failing_platforms";
    head(text, name, "gauge", "Platforms for which no service had collateral at the last attempt.");
    let _ = writeln!(text, "{name} {}", figures.failing);
    if let Some(time) = figures.last_success {
        let name = "coordinator_collateral_last_success_timestamp_seconds";
        head(text, name, "gauge", "When a service gave collateral at last.");
        let _ = writeln!(text, "{name} {}", time.as_secs());
    }
    if !figures.expires.is_empty() {
        let name = "coordinator_collateral_expiry_timestamp_seconds";
        head(text, name, "gauge", "Until when the collateral of a platform that was used may be used.");
        for (platform, time) in &figures.expires {
            let (fmspc, ca) = (platform.fmspc, platform.ca);
            let _ = writeln!(text, "{name}{{fmspc=\"{fmspc}\",ca=\"{ca}\"}} {}", time.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use marblerun_attestation::{Fmspc, PckCa, PlatformId, Tee};
    use rustls::pki_types::UnixTime;

    use super::*;

    // rules: SAFE-16
    #[test]
    fn figures_of_collateral_name_platforms_and_times() {
        let shown = |figures: &Figures| {
            let mut text = String::new();
            write(figures, &mut text);
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let name = "coordinator_collateral";
        let mut expected = vec![
            format!("{name}_fetches_total{{result=\"success\"}} 0"),
            format!("{name}_fetches_total{{result=\"failure\"}} 0"),
            format!("{name}_failing_platforms 0"),
        ];
        assert_eq!(shown(&Figures::default()), expected);
        let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let platform = PlatformId { tee: Tee::Sgx, fmspc: Fmspc([0, 0x90, 0x6e, 0xd5, 0, 0]), ca: PckCa::Processor };
        let expires = [(platform, time(30))].into();
        let figures = Figures { fetched: 3, failed: 4, last_success: Some(time(20)), failing: 1, expires };
        expected = vec![
            format!("{name}_fetches_total{{result=\"success\"}} 3"),
            format!("{name}_fetches_total{{result=\"failure\"}} 4"),
            format!("{name}_failing_platforms 1"),
            format!("{name}_last_success_timestamp_seconds 20"),
            format!("{name}_expiry_timestamp_seconds{{fmspc=\"00906ED50000\",ca=\"processor\"}} 30"),
        ];
        assert_eq!(shown(&figures), expected);
    }
}
