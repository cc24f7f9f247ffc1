//! Transparent TLS: the variable that Edgeless RT and EGo read.

use std::collections::BTreeMap;

use marblerun_json::{Encode, ObjectEncoder};
use marblerun_manifest::{Manifest, Marble};
use marblerun_pki::pem;
use marblerun_secret::SecretBytes;
use marblerun_template::{Budget, Limit};
use zeroize::Zeroize;

use super::compile::{CompileError, MarbleData};

/// Variable with the configuration of transparent TLS; set only for Marbles with TLS tags.
pub const ENV_TTLS_CONFIG: &str = "MARBLE_TTLS_CONFIG";

/// The endpoints of a Marble, by the key that the runtime looks up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TtlsConfig {
    outgoing: BTreeMap<String, ()>,
    incoming: BTreeMap<String, Incoming>,
}

#[derive(Debug, PartialEq, Eq)]
struct Incoming {
    /// Secret that is presented instead of the Marble's own certificate.
    secret: Option<String>,
    client_auth: bool,
}

impl TtlsConfig {
    /// The configuration from the Marble's tags; `None` without tags.
    ///
    /// A later entry with the same key replaces an earlier one.
    pub(super) fn of(manifest: &Manifest, marble: &Marble) -> Result<Option<Self>, CompileError> {
        if marble.tls.is_empty() {
            return Ok(None);
        }
        let mut config = Self { outgoing: BTreeMap::new(), incoming: BTreeMap::new() };
        for name in &marble.tls {
            let tag = manifest.tls.get(name).ok_or_else(|| CompileError::UnknownTag { tag: name.clone() })?;
            for entry in &tag.outgoing {
                config.outgoing.insert(format!("{}:{}", entry.addr, entry.port), ());
            }
            for entry in &tag.incoming {
                let secret = (!entry.cert.is_empty()).then(|| entry.cert.clone());
                let client_auth = secret.is_none() || !entry.disable_client_auth;
                config.incoming.insert(format!("*:{}", entry.port), Incoming { secret, client_auth });
            }
        }
        Ok(Some(config))
    }

    /// The secrets whose certificates are presented.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.incoming.values().filter_map(|incoming| incoming.secret.as_deref())
    }

    /// The value of [`ENV_TTLS_CONFIG`]: compact JSON with sorted keys.
    ///
    /// # Errors
    ///
    /// The budget's limit, charged before the text is made.
    pub(super) fn render(&self, data: &MarbleData<'_>, budget: &mut Budget) -> Result<SecretBytes, Limit> {
        let own = Pair {
            certificate: pem::encode("CERTIFICATE", data.certificate),
            key: pem::encode("PRIVATE KEY", data.private_key.expose()),
        };
        let root = pem::encode("CERTIFICATE", data.marble_root);
        let mut pairs = BTreeMap::new();
        for name in self.secrets() {
            // A secret without certificate gives empty blocks.
            let secret = data.secrets.get(name);
            let certificate = secret.and_then(|secret| secret.certificate.as_deref()).unwrap_or_default();
            let key = secret.and_then(|secret| secret.private.as_ref()).map_or(&[][..], SecretBytes::expose);
            let pair =
                Pair { certificate: pem::encode("CERTIFICATE", certificate), key: pem::encode("PRIVATE KEY", key) };
            pairs.insert(name, pair);
        }
        let endpoints = self
            .incoming
            .iter()
            .map(|(key, incoming)| (key, incoming.secret.as_deref().and_then(|name| pairs.get(name)).unwrap_or(&own)))
            .chain(self.outgoing.keys().map(|key| (key, &own)));
        // At most every byte of a key name becomes an escape of six, every newline of PEM one of two.
        let bound = endpoints.fold(64_usize, |sum, (key, pair)| {
            let text = root.len() + pair.certificate.len() + pair.key.len();
            sum.saturating_add(64 + 6 * key.len() + 2 * text)
        });
        budget.charge_output(bound)?;
        // A string that grows would leave copies of the keys behind.
        let mut text = String::with_capacity(bound);
        Document { config: self, root: &root, own: &own, pairs: &pairs }.encode(&mut text);
        Ok(SecretBytes::new(text.into_bytes()))
    }
}

/// A certificate and its key as PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

struct Document<'a> {
    config: &'a TtlsConfig,
    root: &'a str,
    own: &'a Pair,
    pairs: &'a BTreeMap<&'a str, Pair>,
}

struct Endpoint<'a> {
    root: &'a str,
    pair: &'a Pair,
    client_auth: Option<bool>,
}

impl Encode for Endpoint<'_> {
    fn encode(&self, out: &mut String) {
        ObjectEncoder::new(out)
            .member("cacrt", self.root)
            .member("clicrt", &self.pair.certificate)
            .optional("clientAuth", self.client_auth.as_ref())
            .member("clikey", &self.pair.key)
            .finish();
    }
}

impl Encode for Document<'_> {
    fn encode(&self, out: &mut String) {
        let incoming: BTreeMap<String, Endpoint<'_>> = self
            .config
            .incoming
            .iter()
            .map(|(key, incoming)| {
                let pair = incoming.secret.as_deref().and_then(|name| self.pairs.get(name)).unwrap_or(self.own);
                let client_auth = Some(incoming.client_auth);
                (key.clone(), Endpoint { root: self.root, pair, client_auth })
            })
            .collect();
        let outgoing: BTreeMap<String, Endpoint<'_>> = self
            .config
            .outgoing
            .keys()
            .map(|key| (key.clone(), Endpoint { root: self.root, pair: self.own, client_auth: None }))
            .collect();
        ObjectEncoder::new(out).member("tls", &Sides { incoming: &incoming, outgoing: &outgoing }).finish();
    }
}

struct Sides<'a> {
    incoming: &'a BTreeMap<String, Endpoint<'a>>,
    outgoing: &'a BTreeMap<String, Endpoint<'a>>,
}

impl Encode for Sides<'_> {
    fn encode(&self, out: &mut String) {
        ObjectEncoder::new(out).member("Incoming", self.incoming).member("Outgoing", self.outgoing).finish();
    }
}
