//! Updates of the manifest, and their log.

use std::collections::BTreeMap;

use marblerun_api::rest::{
    AcknowledgeAnswer, MessageAnswer, PendingUpdateAnswer, SetManifestRequest, UpdateAnswer, UpdateLogAnswer, v1, v2,
};
use marblerun_json::{DecodeError, RawJson, decode_object, decode_whole};

use crate::client::{ApiVersion, Client, data_of};
use crate::error::ClientError;

/// Longest line of the update log that is read, in bytes.
const MAX_LOG_LINE_BYTES: usize = 4 * 1024 * 1024;

/// The event of a full update that came into force.
const UPDATED: &str = "Complete Manifest updated";

/// HTTP status of the answer if no update is pending.
const NOT_FOUND: u16 = 404;

/// How far an update is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateOutcome {
    /// How many users must still agree; 0: the update is in force.
    pub missing_acknowledgments: u64,
    /// Who may still agree. Empty when the update is in force, and for Coordinators that know only version 1 of the API.
    pub missing_users: Vec<String>,
    /// New recovery secrets by the name of their key, if the update changed the recovery keys. They are given only once.
    pub recovery_secrets: BTreeMap<String, Vec<u8>>,
}

impl UpdateOutcome {
    /// True if the update is in force.
    pub fn is_applied(&self) -> bool {
        self.missing_acknowledgments == 0
    }
}

/// A manifest that waits for users to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpdate {
    /// The manifest byte for byte.
    pub manifest: Vec<u8>,
    /// How many are missing, in the Coordinator's words.
    pub message: String,
    /// Who may still agree.
    pub missing_users: Vec<String>,
}

/// One event of the update log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateLogEntry {
    /// The event as it stands in the log: one JSON object.
    pub text: String,
    /// When, ISO 8601.
    pub time: String,
    /// What happened.
    pub update: String,
    /// Who did it.
    pub user: Option<String>,
    /// Package whose security version was raised.
    pub package: Option<String>,
    /// The security version to which it was raised.
    pub new_version: Option<u64>,
    /// Secret that was set.
    pub secret: Option<String>,
    /// SHA-256 of the manifest that it is about, hexadecimal.
    pub manifest_fingerprint: Option<String>,
}

decode_object!(UpdateLogEntry {
    "time" => time,
    "update" => update,
    "user" => user,
    "package" => package,
    "new version" => new_version,
    "secret" => secret,
    "manifestFingerprint" => manifest_fingerprint,
});

impl UpdateLogEntry {
    /// Reads one line of the log; members that are not known are in [`text`](Self::text) only.
    ///
    /// # Errors
    ///
    /// If it is no JSON object of the known form.
    ///
    /// ```
    /// let line = r#"{"time":"2026-02-01T09:30:00.125Z","update":"SecurityVersion increased","package":"web","new version":3}"#;
    /// let entry = marblerun_client::UpdateLogEntry::parse(line)?;
    /// assert_eq!((entry.package.as_deref(), entry.new_version), (Some("web"), Some(3)));
    /// # Ok::<(), marblerun_json::DecodeError>(())
    /// ```
    pub fn parse(line: &str) -> Result<Self, DecodeError> {
        let (mut entry, _) = decode_whole::<Self>(line.as_bytes(), MAX_LOG_LINE_BYTES)?;
        entry.text = line.to_owned();
        Ok(entry)
    }

    /// True if this event replaced the whole manifest, so that earlier security versions no longer count.
    pub fn replaces_manifest(&self) -> bool {
        self.update == UPDATED
    }
}

impl Client {
    /// The update log, oldest event first.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    ///
    /// ```no_run
    /// # async fn example(client: marblerun_client::Client) -> Result<(), marblerun_client::ClientError> {
    /// for entry in client.update_log().await? {
    ///     println!("{}: {} by {:?}", entry.time, entry.update, entry.user);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update_log(&self) -> Result<Vec<UpdateLogEntry>, ClientError> {
        let answer = self.call_either("GET", [v2::UPDATE, v1::UPDATE], Default::default).await?;
        let lines = match answer.version {
            ApiVersion::V2 => self.decode::<UpdateLogAnswer>("GET", &answer)?.update_log,
            ApiVersion::V1 => {
                let text: String = self.decode("GET", &answer)?;
                text.lines().map(str::to_owned).collect()
            }
        };
        let url = self.url(answer.path);
        lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .map(|line| UpdateLogEntry::parse(line))
            .collect::<Result<_, _>>()
            .map_err(|source| ClientError::AnswerData { url, source })
    }

    /// Updates the manifest, byte for byte: a package-only update, or a full one that may need others to agree.
    ///
    /// The client must be that of a user with the permission, see [`Client::with_certificate`].
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    ///
    /// ```no_run
    /// # async fn example(client: marblerun_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use marblerun_client::ClientCertificate;
    ///
    /// let user = ClientCertificate::read("ann.pem".as_ref(), "ann-key.pem".as_ref())?;
    /// let outcome = client.with_certificate(&user)?.apply_update(&std::fs::read("manifest.json")?).await?;
    /// if !outcome.is_applied() {
    ///     println!("waiting for {:?}", outcome.missing_users);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn apply_update(&self, manifest: &[u8]) -> Result<UpdateOutcome, ClientError> {
        let answer = self.call_either("POST", [v2::UPDATE, v1::UPDATE], || manifest_bodies(manifest)).await?;
        if answer.version == ApiVersion::V1 {
            // Version 1 says nothing about acknowledgements, but shows a manifest that waits.
            data_of::<RawJson>("POST", self.address(), answer.path, &answer.answer)?;
            return match self.pending_update().await {
                Ok(pending) if pending.manifest == manifest => Ok(UpdateOutcome {
                    missing_acknowledgments: first_number(&pending.message).unwrap_or(1),
                    missing_users: pending.missing_users,
                    recovery_secrets: BTreeMap::new(),
                }),
                Ok(_) => Ok(UpdateOutcome::default()),
                Err(error) if error.status() == Some(NOT_FOUND) => Ok(UpdateOutcome::default()),
                // Whether the update waits is not known, so it must not be told to be in force.
                Err(error) => Err(error),
            };
        }
        // Coordinators before MarbleRun v1.8.0 answer without data.
        let answer: UpdateAnswer = self.decode("POST", &answer)?;
        Ok(UpdateOutcome {
            missing_acknowledgments: answer.missing_acknowledgments,
            missing_users: answer.missing_users.unwrap_or_default(),
            recovery_secrets: answer.recovery_secrets.unwrap_or_default(),
        })
    }

    /// Agrees to the pending update, which must be `manifest` byte for byte.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn acknowledge_update(&self, manifest: &[u8]) -> Result<UpdateOutcome, ClientError> {
        let paths = [v2::UPDATE_MANIFEST, v1::UPDATE_MANIFEST];
        let answer = self.call_either("POST", paths, || manifest_bodies(manifest)).await?;
        let acknowledged = match answer.version {
            ApiVersion::V2 => self.decode::<AcknowledgeAnswer>("POST", &answer)?,
            ApiVersion::V1 => {
                let words: String = self.decode("POST", &answer)?;
                AcknowledgeAnswer::from_v1_words(&words)
                    .ok_or_else(|| ClientError::Words { url: self.url(answer.path), got: words })?
            }
        };
        Ok(UpdateOutcome {
            missing_acknowledgments: acknowledged.missing_acknowledgments,
            missing_users: acknowledged.missing_users.unwrap_or_default(),
            recovery_secrets: acknowledged.recovery_secrets.unwrap_or_default(),
        })
    }

    /// Drops the pending update. Returns the Coordinator's words.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::status`] is 404 if nothing is pending.
    pub async fn cancel_update(&self) -> Result<String, ClientError> {
        let answer = self.call_either("POST", [v2::UPDATE_CANCEL, v1::UPDATE_CANCEL], Default::default).await?;
        match answer.version {
            ApiVersion::V2 => Ok(self.decode::<MessageAnswer>("POST", &answer)?.message),
            ApiVersion::V1 => self.decode("POST", &answer),
        }
    }

    /// The manifest that waits for users to agree.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::status`] is 404 if nothing is pending.
    pub async fn pending_update(&self) -> Result<PendingUpdate, ClientError> {
        let paths = [v2::UPDATE_MANIFEST, v1::UPDATE_MANIFEST];
        let answer = self.call_either("GET", paths, Default::default).await?;
        let pending: PendingUpdateAnswer = self.decode("GET", &answer)?;
        Ok(PendingUpdate {
            manifest: pending.manifest,
            message: pending.message,
            missing_users: pending.missing_users.unwrap_or_default(),
        })
    }
}

/// A manifest as both versions want it.
fn manifest_bodies(manifest: &[u8]) -> [Vec<u8>; 2] {
    [SetManifestRequest { manifest: manifest.to_vec() }.to_body(), manifest.to_vec()]
}

/// The number at the beginning of a Coordinator's words about missing acknowledgements.
fn first_number(words: &str) -> Option<u64> {
    words.split(' ').next()?.parse().ok()
}
