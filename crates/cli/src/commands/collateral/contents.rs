//! What collateral text says about itself. Nothing here is proven: it is for people who look for a mistake.

use serde::Deserialize;
use serde_json::{Value, json};
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::output::Output;

/// Dates and numbers; what cannot be read is missing.
#[derive(Debug, Default)]
pub(super) struct Contents {
    tcb_info: Dates,
    qe_identity: Dates,
    root_crl: Dates,
    pck_crl: Dates,
    tcb_info_number: Option<u64>,
    qe_identity_number: Option<u64>,
    tcb_levels: usize,
    newest_tcb_date: Option<String>,
}

#[derive(Debug, Default)]
struct Dates {
    issued: Option<String>,
    next_update: Option<String>,
}

/// The members that are shown. Others, and wrong types of other members, do not matter here.
#[derive(Deserialize)]
struct File {
    root_ca_crl: Option<String>,
    pck_crl: Option<String>,
    tcb_info: Option<String>,
    qe_identity: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Signed {
    issue_date: Option<String>,
    next_update: Option<String>,
    tcb_evaluation_data_number: Option<u64>,
    #[serde(default)]
    tcb_levels: Vec<Level>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    tcb_date: Option<String>,
}

impl Contents {
    /// Reads what can be read.
    pub(super) fn read(text: &[u8]) -> Self {
        let Ok(file) = serde_json::from_slice::<File>(text) else { return Self::default() };
        let signed = |text: &Option<String>| {
            text.as_deref().and_then(|text| serde_json::from_str::<Signed>(text).ok()).unwrap_or_default()
        };
        let (tcb_info, qe_identity) = (signed(&file.tcb_info), signed(&file.qe_identity));
        Self {
            root_crl: Dates::of_crl(file.root_ca_crl.as_deref()),
            pck_crl: Dates::of_crl(file.pck_crl.as_deref()),
            tcb_info_number: tcb_info.tcb_evaluation_data_number,
            qe_identity_number: qe_identity.tcb_evaluation_data_number,
            tcb_levels: tcb_info.tcb_levels.len(),
            // Dates of one form and time zone sort like text.
            newest_tcb_date: tcb_info.tcb_levels.iter().filter_map(|level| level.tcb_date.clone()).max(),
            tcb_info: Dates { issued: tcb_info.issue_date, next_update: tcb_info.next_update },
            qe_identity: Dates { issued: qe_identity.issue_date, next_update: qe_identity.next_update },
        }
    }

    fn items(&self) -> [(&'static str, &Dates); 4] {
        [
            ("TCB info", &self.tcb_info),
            ("QE identity", &self.qe_identity),
            ("root CA revocation list", &self.root_crl),
            ("PCK revocation list", &self.pck_crl),
        ]
    }

    pub(super) fn show(&self, output: &mut Output) -> std::io::Result<()> {
        for (item, dates) in self.items() {
            let known = |date: &Option<String>| date.clone().unwrap_or_else(|| "?".to_owned());
            let (issued, next_update) = (known(&dates.issued), known(&dates.next_update));
            output.line(&format!("  {item}: issued {issued}, next update {next_update}"))?;
        }
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let (tcb_info, qe_identity) = (number(self.tcb_info_number), number(self.qe_identity_number));
        output.line(&format!("  evaluation numbers: TCB info {tcb_info}, QE identity {qe_identity}"))?;
        let newest = self.newest_tcb_date.as_deref().unwrap_or("?");
        output.line(&format!("  TCB levels: {}, the newest of {newest}", self.tcb_levels))
    }

    pub(super) fn to_json(&self) -> Value {
        let items = self
            .items()
            .map(|(item, dates)| json!({"item": item, "issued": dates.issued, "nextUpdate": dates.next_update}));
        json!({
            "items": items,
            "evaluationNumbers": {"tcbInfo": self.tcb_info_number, "qeIdentity": self.qe_identity_number},
            "tcbLevels": self.tcb_levels,
            "newestTcbDate": self.newest_tcb_date,
        })
    }
}

impl Dates {
    fn of_crl(text: Option<&str>) -> Self {
        let der = text.and_then(|text| hex::decode(text).ok());
        let Some(list) = der.and_then(|der| <CertificateList>::from_der(&der).ok()) else { return Self::default() };
        let date = |time: x509_cert::time::Time| time.to_date_time().to_string();
        Self {
            issued: Some(date(list.tbs_cert_list.this_update)),
            next_update: list.tbs_cert_list.next_update.map(date),
        }
    }
}
