/// Paths of version 1.
pub mod v1 {
    /// GET and POST: the manifest.
    pub const MANIFEST: &str = "/manifest";
    /// GET: the update log. POST: an update.
    pub const UPDATE: &str = "/update";
    /// GET and POST: secrets.
    pub const SECRETS: &str = "/secrets";
    /// GET: what the Coordinator is ready for.
    pub const STATUS: &str = "/status";
    /// GET: certificate chain and quote.
    pub const QUOTE: &str = "/quote";
    /// Gone; POST answers 410.
    pub const RECOVER: &str = "/recover";
    /// GET and POST: the pending update.
    pub const UPDATE_MANIFEST: &str = "/update-manifest";
    /// POST: drops the pending update.
    pub const UPDATE_CANCEL: &str = "/update-cancel";
}

/// Paths of version 2.
pub mod v2 {
    /// GET and POST: the manifest.
    pub const MANIFEST: &str = "/api/v2/manifest";
    /// GET: the update log. POST: an update.
    pub const UPDATE: &str = "/api/v2/update";
    /// GET and POST: secrets.
    pub const SECRETS: &str = "/api/v2/secrets";
    /// GET: what the Coordinator is ready for.
    pub const STATUS: &str = "/api/v2/status";
    /// GET: certificate chain and quote.
    pub const QUOTE: &str = "/api/v2/quote";
    /// POST: a recovery secret.
    pub const RECOVER: &str = "/api/v2/recover";
    /// GET: the key to which recovery secrets can be encrypted.
    pub const RECOVER_PUBLIC_KEY: &str = "/api/v2/recover/public-key";
    /// POST: has a quote verified and the verdict signed.
    pub const SIGN_QUOTE: &str = "/api/v2/sign-quote";
    /// POST: raises a Marble's counter.
    pub const MONOTONIC_COUNTER: &str = "/api/v2/monotonic-counter";
    /// GET and POST: the pending update.
    pub const UPDATE_MANIFEST: &str = "/api/v2/update-manifest";
    /// POST: drops the pending update.
    pub const UPDATE_CANCEL: &str = "/api/v2/update-cancel";
}
