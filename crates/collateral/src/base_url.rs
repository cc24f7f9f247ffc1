//! Where a collateral service is.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// Intel's own service. Nothing asks it unless somebody configures it.
pub const INTEL_PCS_URL: &str = "https://api.trustedservices.intel.com/sgx/certification/v4/";

const INTEL_PCS_HOST: &str = "api.trustedservices.intel.com";
/// The distribution point that is named in Intel's root certificate.
const INTEL_ROOT_CRL_URL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/// How every base ends: TEE and version of the API.
const API_PATH: &str = "/sgx/certification/v4/";
/// A longer one is a mistake.
const MAX_URL_BYTES: usize = 1024;

/// The address of a PCS or PCCS: scheme, host, port, and a path that ends with `/sgx/certification/v4/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl(Location);

/// Why text is not the address of a collateral service.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It is no URL.
    #[error("expected a URL like {INTEL_PCS_URL}, got {got:?}")]
    Malformed {
        /// What came.
        got: String,
    },
    /// It is too long.
    #[error("expected a URL of at most {max} bytes, got {got}")]
    TooLong {
        /// The limit.
        max: usize,
        /// What came.
        got: usize,
    },
    /// The scheme is another one.
    #[error("expected a URL with https:// or http://, got {got:?}")]
    Scheme {
        /// What came.
        got: String,
    },
    /// It carries a user's name or password, which would end up in logs.
    #[error("expected a URL without user and password")]
    Credentials,
    /// It has a query or a fragment.
    #[error("expected a URL without query, got {got:?}")]
    Query {
        /// What came.
        got: String,
    },
    /// The path does not name the API and its version.
    #[error("expected a URL whose path ends with {API_PATH}, got {got:?}")]
    Path {
        /// What came.
        got: String,
    },
}

impl BaseUrlError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Path { got } if got.contains("/v3") || got.contains("/v2") => {
                "version 4 of the API is needed; most services answer it beside the older ones"
            }
            _ => "give the full URL, for example https://pccs.example:8081/sgx/certification/v4/",
        })
    }
}

impl BaseUrl {
    /// Intel's own service, [`INTEL_PCS_URL`].
    pub fn intel() -> Self {
        Self::parse(INTEL_PCS_URL).expect("the constant is tested")
    }

    /// Reads an address; the last `/` may be missing.
    ///
    /// # Errors
    ///
    /// See [`BaseUrlError`].
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.trim();
        if text.len() > MAX_URL_BYTES {
            return Err(BaseUrlError::TooLong { max: MAX_URL_BYTES, got: text.len() });
        }
        let got = || text.to_owned();
        // The reader of URIs drops a fragment without a word.
        if text.contains(['?', '#']) {
            return Err(BaseUrlError::Query { got: got() });
        }
        let authority = text.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        if authority.contains('@') {
            return Err(BaseUrlError::Credentials);
        }
        let mut location = Location::parse(text).ok_or_else(|| match text.split_once("://") {
            Some((scheme, _)) if !matches!(scheme, "http" | "https") => BaseUrlError::Scheme { got: got() },
            _ => BaseUrlError::Malformed { got: got() },
        })?;
        if !location.path.ends_with('/') {
            location.path.push('/');
        }
        if !location.path.ends_with(API_PATH) {
            return Err(BaseUrlError::Path { got: got() });
        }
        Ok(Self(location))
    }

    /// True if this is Intel's own service.
    pub fn is_intel(&self) -> bool {
        self.0.host.eq_ignore_ascii_case(INTEL_PCS_HOST)
    }

    /// True if the way there is protected by TLS.
    pub fn is_https(&self) -> bool {
        self.0.https
    }

    /// `name` below this address.
    pub(crate) fn join(&self, name: &str) -> Location {
        Location { path: format!("{}{name}", self.0.path), ..self.0.clone() }
    }

    /// Where the root's revocation list is: Intel's service has it on another host, a PCCS among the rest. Neither
    /// address is ever taken from a certificate.
    pub(crate) fn root_crl(&self) -> Location {
        if self.is_intel() {
            Location::parse(INTEL_ROOT_CRL_URL).expect("the constant is tested")
        } else {
            self.join("rootcacrl")
        }
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    pub(crate) https: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Host and port as they were written.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Location {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        // A port that is no number reads as none.
        let port = match authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((_, port)) => port.parse().ok().filter(|&port| port != 0)?,
            None if https => 443,
            None => 80,
        };
        Some(Self {
            https,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: uri.path().to_owned(),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16, shown: &str) {
        let url = BaseUrl::parse(text).unwrap();
        assert_eq!((url.0.host.as_str(), url.0.port), (host, port), "{text}");
        assert_eq!(url.to_string(), shown);
    }

    #[test]
    fn addresses_are_taken_apart_and_end_with_a_slash() {
        check(INTEL_PCS_URL, "api.trustedservices.intel.com", 443, INTEL_PCS_URL);
        let local = "https://localhost:8081/sgx/certification/v4/";
        check("https://localhost:8081/sgx/certification/v4", "localhost", 8081, local);
        check(" http://[::1]:80/sgx/certification/v4/\n", "::1", 80, "http://[::1]:80/sgx/certification/v4/");
        check("http://[::1]/sgx/certification/v4/", "::1", 80, "http://[::1]/sgx/certification/v4/");
        check("http://a/b/sgx/certification/v4/", "a", 80, "http://a/b/sgx/certification/v4/");
    }

    #[test]
    fn what_is_no_full_url_is_refused_with_its_form() {
        #[track_caller]
        fn check(text: &str, message: &str) {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
            assert!(error.hint().is_some());
        }
        for text in ["", "pccs", "localhost:8081", "https://", "https:///sgx/certification/v4/", "https://a:x/sgx"] {
            check(text, "expected a URL like https://");
        }
        check("https://a:0/sgx/certification/v4/", "expected a URL like");
        check("ftp://a/sgx/certification/v4/", "expected a URL with https:// or http://");
        for text in ["https://localhost:8081", "https://localhost:8081/", "https://a/sgx/certification/v3/"] {
            check(text, "path ends with /sgx/certification/v4/");
        }
        check("https://a/tdx/certification/v4/", "path ends with");
        check("https://a/sgx/certification/v4/?x=1", "without query");
        check("https://a/sgx/certification/v4/#x", "without query");
        check(&format!("https://a/{}", "x".repeat(MAX_URL_BYTES)), "at most 1024 bytes");
        let error = BaseUrl::parse("https://me:secret@a/sgx/certification/v4/").unwrap_err();
        assert_eq!(error, BaseUrlError::Credentials);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    // rules: ATT-11.5
    #[test]
    fn only_the_configured_host_is_asked_and_intels_second_one_only_with_intels_service() {
        let shown = |base: &str| BaseUrl::parse(base).unwrap().root_crl().to_string();
        assert_eq!(shown(INTEL_PCS_URL), INTEL_ROOT_CRL_URL);
        assert_eq!(shown("https://a/sgx/certification/v4/"), "https://a/sgx/certification/v4/rootcacrl");
        let alike = "https://api.trustedservices.intel.com.example/sgx/certification/v4/";
        assert_eq!(shown(alike), format!("{alike}rootcacrl"));
        assert!(BaseUrl::intel().is_intel() && BaseUrl::intel().is_https());
    }
}
