use marblerun_json::decode_object;

/// Settings of the whole deployment, words unchecked; see [`Config::seal_mode`] and [`Config::has_feature`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The word for the seal mode.
    pub seal_mode_word: String,
    /// Names of features that are switched on.
    pub feature_gates: Vec<String>,
    /// How many users must agree to an update; 0: all who may update.
    pub update_threshold: u64,
    /// How many recovery keys are needed; 0: all.
    pub recovery_threshold: u64,
    /// A full update replaces the secret from which symmetric keys are derived.
    pub rotate_root_secret: bool,
}

decode_object!(Config {
    "SealMode" => seal_mode_word,
    "FeatureGates" => feature_gates,
    "UpdateThreshold" => update_threshold,
    "RecoveryThreshold" => recovery_threshold,
    "RotateRootSecret" => rotate_root_secret,
});

impl Config {
    /// The seal mode; `None` if the word is unknown, which [`crate::Manifest::check`] refuses.
    pub fn seal_mode(&self) -> Option<SealMode> {
        match self.seal_mode_word.as_str() {
            "" | "ProductKey" => Some(SealMode::ProductKey),
            "UniqueKey" => Some(SealMode::UniqueKey),
            "Disabled" => Some(SealMode::Disabled),
            _ => None,
        }
    }

    /// True if the feature is switched on.
    pub fn has_feature(&self, feature: FeatureGate) -> bool {
        self.feature_gates.iter().any(|word| FeatureGate::from_word(word) == Some(feature))
    }
}

/// To whom the Coordinator seals its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealMode {
    /// `ProductKey`, also when nothing is said: every enclave of the same signer and product.
    #[default]
    ProductKey,
    /// `UniqueKey`: exactly this enclave.
    UniqueKey,
    /// `Disabled`: nothing is written.
    Disabled,
}

impl SealMode {
    /// The word that stands in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProductKey => "ProductKey",
            Self::UniqueKey => "UniqueKey",
            Self::Disabled => "Disabled",
        }
    }
}

/// Features that a manifest can switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureGate {
    /// `SignQuoteEndpoint`: anyone may have a quote verified and the verdict signed.
    SignQuoteEndpoint,
    /// `MonotonicCounter`: Marbles may keep counters.
    MonotonicCounter,
    /// `AzureHSMSealing`: the state's key is wrapped by a hardware security module.
    AzureHsmSealing,
}

impl FeatureGate {
    /// Every feature.
    pub const ALL: [Self; 3] = [Self::SignQuoteEndpoint, Self::MonotonicCounter, Self::AzureHsmSealing];

    /// The word that stands in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignQuoteEndpoint => "SignQuoteEndpoint",
            Self::MonotonicCounter => "MonotonicCounter",
            Self::AzureHsmSealing => "AzureHSMSealing",
        }
    }

    /// The feature with this word, compared without regard to case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.as_str().eq_ignore_ascii_case(word))
    }
}
