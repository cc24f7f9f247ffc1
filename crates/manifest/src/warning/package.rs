use std::collections::BTreeSet;

use marblerun_json::Place;

use super::{WarningCode, Warnings};
use crate::certificate::shorten;
use crate::check::check_identity;
use crate::nearest::nearest;
use crate::schema::{Manifest, Package};

/// The words of Intel's TCB evaluation.
const TCB_STATUSES: [&str; 7] = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
];

/// A measurement of SHA-256 in hexadecimal.
const IDENTITY_DIGITS: usize = 64;

pub(super) fn warn(manifest: &Manifest, warnings: &mut Warnings) {
    let used: BTreeSet<&str> = manifest.marbles.values().map(|marble| marble.package.as_str()).collect();
    for (name, package) in &manifest.packages {
        let place = Place::top().member("Packages").member(name);
        if !used.contains(name.as_str()) {
            warnings.add(place.clone(), WarningCode::UnusedPackage, "no Marble has this package");
        }
        warn_package(&place, package, warnings);
    }
    if !manifest.infrastructures.is_empty() {
        let text = "the values are not compared with the platform of a Marble";
        warnings.add(Place::top().member("Infrastructures"), WarningCode::InfrastructureNotCompared, text);
    }
}

fn warn_package(place: &Place, package: &Package, warnings: &mut Warnings) {
    for (member, value) in [("UniqueID", &package.unique_id), ("SignerID", &package.signer_id)] {
        let hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !value.is_empty() && (!hex || value.len() != IDENTITY_DIGITS) {
            let length = value.chars().count();
            let got =
                if hex { format!("{length} digits") } else { format!("{length} characters, not all of them digits") };
            let text = format!("expected {IDENTITY_DIGITS} hexadecimal digits, got {got}; no enclave will match");
            warnings.add(place.member(member), WarningCode::IdentityNotHex, text);
        }
    }
    if package.debug {
        let text = "enclaves must be in debug mode, in which the host can read their memory";
        warnings.add(place.member("Debug"), WarningCode::DebugPackage, text);
    }
    if package.unique_id.is_empty() && package.signer_id.is_empty() {
        let text = "neither UniqueID nor SignerID is given: the package does not say which enclave it is";
        warnings.add(place.clone(), WarningCode::UnpinnedPackage, text);
    } else if package.debug
        && let Err(error) = check_identity(place, package)
    {
        warnings.add(place.clone(), WarningCode::UnpinnedPackage, format!("will not do without Debug: {error}"));
    }
    if package.security_version == Some(0) {
        let text = "every security version is accepted, also ones with known holes";
        warnings.add(place.member("SecurityVersion"), WarningCode::SecurityVersionZero, text);
    }
    for (index, status) in package.accepted_tcb_statuses.iter().enumerate() {
        let place = place.member("AcceptedTCBStatuses").index(index);
        if !TCB_STATUSES.contains(&status.as_str()) {
            let text = match nearest(status, TCB_STATUSES.into_iter()) {
                Some(known) => format!("there is no status {:?}; did you mean {known}?", shorten(status)),
                None => format!("there is no status {:?}", shorten(status)),
            };
            warnings.add(place, WarningCode::UnknownTcbStatus, text);
        } else if status == "Revoked" {
            let text = "a revoked platform is never accepted, whatever is listed";
            warnings.add(place, WarningCode::RevokedTcbStatus, text);
        }
    }
    for (index, advisory) in package.accepted_advisories.iter().enumerate() {
        let form = advisory.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("INTEL-SA-"));
        if !form {
            let place = place.member("AcceptedAdvisories").index(index);
            let text = format!("expected a name like INTEL-SA-00615, got {:?}", shorten(advisory));
            warnings.add(place, WarningCode::UnusualAdvisory, text);
        }
    }
}
