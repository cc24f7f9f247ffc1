//! Flags that several commands share.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::output::Format;

/// The word after `--output` that asks for machine-readable output; a file of this name is `./json`.
const JSON_WORD: &str = "json";

/// `--output` of commands that write no file.
#[derive(Args, Debug)]
pub(crate) struct FormatFlag {
    /// Form of the output.
    #[arg(long = "output", value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// `--output` of commands that may write their result to a file.
#[derive(Args, Debug)]
pub(crate) struct OutputFlag {
    /// File for the result, or `json` for machine-readable output on stdout and no file. Default: stdout.
    #[arg(short, long, value_name = "FILE|json", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) output: Option<String>,
}

impl OutputFlag {
    pub(crate) fn format(&self) -> Format {
        format_of(self.output.as_deref())
    }

    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        file_of(self.output.as_deref())
    }
}

/// `--output` of commands that must write their result somewhere.
#[derive(Args, Debug)]
pub(crate) struct RequiredOutputFlag {
    /// New file for the result, or `json` for machine-readable output on stdout and no file.
    #[arg(short, long, value_name = "FILE|json", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) output: String,
}

impl RequiredOutputFlag {
    pub(crate) fn format(&self) -> Format {
        format_of(Some(&self.output))
    }

    /// The file; `None` with machine-readable output.
    pub(crate) fn file(&self) -> Option<&Path> {
        file_of(Some(&self.output))
    }
}

fn format_of(output: Option<&str>) -> Format {
    if output == Some(JSON_WORD) { Format::Json } else { Format::Text }
}

pub(crate) fn file_of(output: Option<&str>) -> Option<&Path> {
    output.filter(|word| *word != JSON_WORD).map(Path::new)
}

/// `--allow-warnings`.
#[derive(Args, Debug)]
pub(crate) struct WarningsFlag {
    /// Accept what is only probably a mistake.
    #[arg(long)]
    pub(crate) allow_warnings: bool,
}

/// Who the user is.
#[derive(Args, Debug)]
#[command(next_help_heading = "User")]
pub(crate) struct Credentials {
    /// Certificate of the user in the manifest (PEM; a chain begins with it).
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate (PEM: PKCS#8, SEC1 or PKCS#1).
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) token: TokenKey,
    /// CKA_ID of the certificate on the token.
    #[arg(long, global = true, value_name = "ID", hide = true)]
    pub(crate) pkcs11_cert_id: Option<String>,
    /// CKA_LABEL of the certificate on the token.
    #[arg(long, global = true, value_name = "LABEL", hide = true)]
    pub(crate) pkcs11_cert_label: Option<String>,
}

/// A private key on a PKCS#11 token.
#[derive(Args, Debug)]
pub(crate) struct TokenKey {
    /// PKCS#11 configuration (JSON).
    #[arg(long, global = true, value_name = "FILE", hide = true)]
    pub(crate) pkcs11_config: Option<PathBuf>,
    /// CKA_ID of the private key on the token.
    #[arg(long, global = true, value_name = "ID", hide = true)]
    pub(crate) pkcs11_key_id: Option<String>,
    /// CKA_LABEL of the private key on the token.
    #[arg(long, global = true, value_name = "LABEL", hide = true)]
    pub(crate) pkcs11_key_label: Option<String>,
}
